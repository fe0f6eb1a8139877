package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
)

// install brings the suite and what it needs into dir/node_modules, exactly as
// package-lock.json pins them, unless that was done already for these very
// files: a stamp in node_modules holds their digest.
func install(ctx context.Context, dir string) error {
	digest := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json", ".npmrc"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return fmt.Errorf("conformance: %w (run this in the bench directory, or name -dir)", err)
		}
		digest.Write(data)
	}
	want := []byte(hex.EncodeToString(digest.Sum(nil)))
	stamp := filepath.Join(dir, "node_modules", ".stamp")
	if have, err := os.ReadFile(stamp); err == nil && bytes.Equal(have, want) {
		return nil
	}
	npm := exec.CommandContext(ctx, "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
	npm.Dir = dir
	output, err := npm.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("conformance: npm is not installed; the suite needs Node.js 18 or newer with npm")
	}
	if err != nil {
		return fmt.Errorf("conformance: npm ci in %s: %w\n%s", dir, err, output)
	}
	if err := os.WriteFile(stamp, want, 0o644); err != nil {
		return fmt.Errorf("conformance: %w", err)
	}
	return nil
}
