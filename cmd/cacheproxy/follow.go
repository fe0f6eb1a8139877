package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/admin"
)

func newLog() *cobra.Command {
	var follow, asJSON bool
	var lines int
	cmd := &cobra.Command{
		Use:   "log",
		Short: "Show the requests of a running proxy",
		Long: `Log shows requests of a running proxy, one a line, as they end (-f) or the last of those that were no hits; hits are not kept.
The flags choose; of a flag given several times one value must hold. What log.access samples does not matter, log.redact does.`,
		Example: `  cacheproxy log -f
  cacheproxy log -f --outcome hit-stale --outcome error
  cacheproxy log -f --url 'shop.example/api/*' --status 5xx --json
  cacheproxy log -n 20 --reason set-cookie`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			query, err := logQuery(cmd)
			if err != nil {
				return err
			}
			client, err := newOperatorClient(cmd)
			if err != nil {
				return err
			}
			ctx, forget := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
			defer forget()
			return showLog(ctx, cmd, client, query, asJSON)
		},
	}
	addOperator(cmd)
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "show requests as they end, until Ctrl-C")
	flags.IntVarP(&lines, "lines", "n", 0, "the last `N` requests; with -f, end after N")
	flags.BoolVar(&asJSON, "json", false, "print each as JSON, as the access log has it")
	flags.StringSlice("outcome", nil, "`word`: hit, hit-stale, collapsed, error, or why it went upstream: uri-miss, stale, bypass, ...")
	flags.StringSlice("reason", nil, "`word` that stands under detail in the log and in Cache-Status: no-store, set-cookie, ...")
	flags.StringSlice("status", nil, "`status` sent: 200, 5xx or 400-499")
	flags.StringArray("url", nil, "`glob` over host and path, or from / on over the path alone; * stands for anything")
	flags.StringSlice("method", nil, "`method` of the request")
	flags.StringSlice("client", nil, "`address` of the client, or its network: 10.0.0.0/8")
	flags.StringSlice("tier", nil, "`tier` that the stored response came from: near, redis or none")
	flags.String("min-ms", "", "what took `N` milliseconds or longer")
	return cmd
}

// logQuery makes parameters of GET /v1/log of the flags. What is wrong with them is said here, as of any command line.
func logQuery(cmd *cobra.Command) (url.Values, error) {
	query := url.Values{}
	for _, name := range []string{"outcome", "reason", "status", "method", "client", "tier"} {
		if values, _ := cmd.Flags().GetStringSlice(name); len(values) > 0 {
			query[name] = values
		}
	}
	if values, _ := cmd.Flags().GetStringArray("url"); len(values) > 0 {
		query["url"] = values
	}
	for name, flag := range map[string]string{"min_ms": "min-ms", "limit": "lines", "follow": "follow"} {
		if f := cmd.Flag(flag); f.Changed || name == "follow" {
			query.Set(name, f.Value.String())
		}
	}
	return query, admin.CheckLog(query)
}

// showLog prints what the process answers until that ends, or ctx does.
func showLog(ctx context.Context, cmd *cobra.Command, client *operatorClient, query url.Values, asJSON bool) error {
	following := query.Get("follow") == "true"
	response, err := client.do(ctx, http.MethodGet, "/v1/log", query, nil)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	defer response.Body.Close()
	if following {
		fmt.Fprintf(cmd.ErrOrStderr(), "following %s; Ctrl-C ends it\n", client.base.Host)
	}
	out := bufio.NewWriter(cmd.OutOrStdout())
	p := &logPrinter{out: out, notes: cmd.ErrOrStderr(), asJSON: asJSON, terminal: terminalOf(cmd.OutOrStdout())}
	err = p.copy(response.Body)
	if flushed := out.Flush(); err == nil {
		err = flushed
	}
	limit, _ := strconv.Atoi(query.Get("limit"))
	switch {
	case ctx.Err() != nil:
		return nil
	case !following && err == nil, following && limit > 0 && p.requests == limit:
		return nil
	case p.ended != "":
		return failure{fmt.Errorf("%s: %s", client.base.Host, p.ended)}
	case err == nil, errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return failure{fmt.Errorf("%s: the process ended, or gave up on this reader", client.base.Host)}
	default:
		return failure{fmt.Errorf("%s: %w", client.base.Host, err)}
	}
}

// logPrinter prints lines of GET /v1/log.
type logPrinter struct {
	out      *bufio.Writer
	notes    io.Writer
	asJSON   bool
	terminal terminal
	requests int    // printed
	ended    string // what the process said when it ended
}

// copy prints all lines of r. What has been read is flushed before more is waited for.
func (p *logPrinter) copy(r io.Reader) error {
	for in := bufio.NewReader(r); ; {
		if in.Buffered() == 0 {
			if err := p.out.Flush(); err != nil {
				return err
			}
		}
		line, err := in.ReadBytes('\n')
		if err == io.EOF && len(line) == 0 {
			return nil
		}
		if err == io.EOF {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if err := p.print(line); err != nil {
			return err
		}
	}
}

// loggedRequest is one line: a request, or one of the two other objects that admin.Feed sends.
type loggedRequest struct {
	Time    time.Time `json:"time"`
	Method  string    `json:"method"`
	Host    string    `json:"host"`
	Target  string    `json:"target"`
	Status  int       `json:"status"`
	Bytes   int64     `json:"bytes"`
	MS      float64   `json:"ms"`
	Outcome string    `json:"outcome"`
	Tier    string    `json:"tier"`
	Client  string    `json:"client"`
	Detail  string    `json:"detail"`
	Error   string    `json:"error"`

	Dropped int    `json:"dropped"`
	Ended   string `json:"ended"`
}

func (p *logPrinter) print(line []byte) error {
	var l loggedRequest
	if err := json.Unmarshal(line, &l); err != nil {
		return fmt.Errorf("a line is no JSON: %w", err)
	}
	switch {
	case l.Ended != "":
		p.ended = l.Ended
		return nil
	case l.Dropped > 0 && !p.asJSON:
		if err := p.out.Flush(); err != nil { // so that the note stands where they are missing
			return err
		}
		_, err := fmt.Fprintf(p.notes, "%d requests are not shown: they came faster than they were read\n", l.Dropped)
		return err
	case l.Dropped == 0:
		p.requests++
	}
	if p.asJSON {
		_, err := p.out.Write(line)
		return err
	}
	_, err := p.out.WriteString(l.text(p.terminal))
	return err
}

// text is the line for people. What is of variable length and not always there comes last, so that the rest stands in columns.
func (l *loggedRequest) text(t terminal) string {
	text := fmt.Sprintf("%s %s %s %s %8s %6s %s %s",
		t.paint(dim, l.Time.Local().Format("15:04:05.000")),
		t.paint(statusColour(l.Status), fmt.Sprintf("%3d", l.Status)),
		t.paint(outcomeColour(l.Outcome), fmt.Sprintf("%-9s", printable(l.Outcome))),
		fmt.Sprintf("%-5s", printable(l.Tier)),
		shortSeconds(l.MS/1000), shortBytes(float64(l.Bytes)), fmt.Sprintf("%-6s", printable(l.Method)), printable(l.Host+l.Target))
	if l.Detail != "" {
		text += " " + t.paint(cyan, printable(l.Detail))
	}
	if l.Client != "" {
		text += " " + t.paint(dim, printable(l.Client))
	}
	if l.Error != "" {
		text += " " + t.paint(red, printable(l.Error))
	}
	return text + "\n"
}

func statusColour(status int) colour {
	switch {
	case status == 0 || status >= 500:
		return red
	case status >= 400:
		return yellow
	default:
		return plain
	}
}

func outcomeColour(outcome string) colour {
	switch outcome {
	case "hit":
		return green
	case "hit-stale", "collapsed":
		return cyan
	case "error":
		return red
	default:
		return yellow
	}
}
