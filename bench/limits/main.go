// Command limits draws the pictures of docs/limits.md: what each algorithm of package limiter admits of the same traffic, and what leases ask of
// Redis.
//
// Every decision in them is one of package limiter, not of a model of it. The algorithms decide in this process, by a clock that stands still
// between two requests (traffic.go); the leases are those of four limiters that share a redis-server, which is started for it and speaks on a
// unix socket alone (leases.go). So the pictures are the same bytes each time, and the test says when they are not what the code does.
//
// Run it in the bench directory: go run ./limits -out ../docs/limits. With -png DIR it writes the same as PNG there, to be looked at.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

func main() {
	out := flag.String("out", "../docs/limits", "where the SVG files are written")
	png := flag.String("png", "", "where PNG files are written too; empty = nowhere")
	flag.Parse()
	log.SetFlags(0)
	if err := run(*out, *png); err != nil {
		log.Fatal("limits: ", err)
	}
}

func run(out, png string) error {
	all, err := pictures()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		text, err := all[name].svg()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := os.WriteFile(filepath.Join(out, name+".svg"), text, 0o644); err != nil {
			return err
		}
		if png == "" {
			continue
		}
		if err := all[name].png(filepath.Join(png, name+".png")); err != nil {
			return err
		}
	}
	return nil
}

// pictures are all of them, by the names of their files.
func pictures() (map[string]*picture, error) {
	all := map[string]*picture{}
	for _, a := range admissions {
		c, err := a.run()
		if err != nil {
			return nil, err
		}
		all[a.name()] = c.picture()
	}
	leased, err := share()
	if err != nil {
		return nil, err
	}
	all["leased"] = leased.picture()
	return all, nil
}

// svg is a picture as SVG, whose text is text.
func (p *picture) svg() ([]byte, error) {
	canvas := vgsvg.New(width, height)
	p.draw(draw.New(canvas))
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		return nil, err
	}
	// Few have the Liberation fonts that the text was measured with; these have the same metrics, or nearly.
	const one, several = "font-family:Liberation Sans;font-variant:normal;", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"
	if !bytes.Contains(b.Bytes(), []byte(one)) {
		return nil, fmt.Errorf("the text is not in %q", one)
	}
	return bytes.ReplaceAll(b.Bytes(), []byte(one), []byte(several)), nil
}

func (p *picture) png(name string) error {
	canvas := vgimg.NewWith(vgimg.UseWH(width, height), vgimg.UseDPI(144))
	p.draw(draw.New(canvas))
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	if _, err = (vgimg.PngCanvas{Canvas: canvas}).WriteTo(file); err != nil {
		_ = file.Close() // the first error is the one to tell
		return err
	}
	return file.Close()
}
