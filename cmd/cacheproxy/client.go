package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/config"
)

// operatorClient asks a running cacheproxy on its operator's listener. Commands that do so have the flags --admin and --token-file,
// whose defaults are the variables that the process itself would read, and then its defaults.
type operatorClient struct {
	base  url.URL
	token string
	more  http.Header // fields of every request
	http  *http.Client
}

// addOperator gives a command the flags of operatorClient.
func addOperator(cmd *cobra.Command) {
	cmd.Flags().String("admin", "", "`address` of the operator's listener: host:port, unix:/path or a URL (default CACHEPROXY_ADMIN_LISTEN or 127.0.0.1:9090)")
	cmd.Flags().String("token-file", "", "`file` with the bearer token (default CACHEPROXY_ADMIN_TOKEN_FILE)")
}

// newOperatorClient makes the client that the flags describe. It connects to nothing.
func newOperatorClient(cmd *cobra.Command) (*operatorClient, error) {
	setting := func(flag, variable, otherwise string) string {
		if v := cmd.Flag(flag).Value.String(); v != "" {
			return v
		}
		if v := os.Getenv(variable); v != "" {
			return v
		}
		return otherwise
	}
	c := &operatorClient{http: &http.Client{}, more: http.Header{}}
	transport := &http.Transport{ResponseHeaderTimeout: 30 * time.Second}
	c.http.Transport = transport
	address := setting("admin", config.VariableOf("admin.listen"), config.Default().Admin.Listen)
	if path, unix := strings.CutPrefix(address, "unix:"); unix {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		c.base = url.URL{Scheme: "http", Host: "localhost"}
	} else if base, err := operatorURL(address); err != nil {
		return nil, err
	} else {
		c.base = *base
	}
	if file := setting("token-file", config.VariableOf("admin.token_file"), ""); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--token-file: %w", err)
		}
		c.token = strings.TrimSpace(string(text))
	}
	return c, nil
}

// operatorURL makes a URL of an address that may be one already, or lack its host.
func operatorURL(address string) (*url.URL, error) {
	if strings.HasPrefix(address, ":") {
		address = "127.0.0.1" + address
	}
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	base, err := url.Parse(address)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, fmt.Errorf("--admin: %q is not an address: write 127.0.0.1:9090, unix:/path or http://host:9090", address)
	}
	return base, nil
}

// do sends a request, with body as JSON unless it is nil, and returns the response if its status is 2xx. Every other is a failure that says what the
// process said, or that it does not answer.
func (c *operatorClient) do(ctx context.Context, method, path string, query url.Values, body any) (*http.Response, error) {
	target := c.base.JoinPath(path)
	target.RawQuery = query.Encode()
	var content io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		content = bytes.NewReader(text)
	}
	r, err := http.NewRequestWithContext(ctx, method, target.String(), content)
	if err != nil {
		return nil, err
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		r.Header.Set("Authorization", "Bearer "+c.token)
	}
	for name, values := range c.more {
		r.Header[name] = values
	}
	res, err := c.http.Do(r)
	if err != nil {
		var failed *url.Error
		if errors.As(err, &failed) {
			err = failed.Err
		}
		return nil, failure{fmt.Errorf("%s: %w (is cacheproxy serve running there? --admin names its operator's address)", c.base.Host, err)}
	}
	if res.StatusCode/100 == 2 {
		return res, nil
	}
	defer res.Body.Close()
	return nil, failure{operatorProblem(res)}
}

// ask is do for an answer that is one JSON value.
func (c *operatorClient) ask(ctx context.Context, method, path string, query url.Values, body, into any) error {
	res, err := c.do(ctx, method, path, query, body)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if err := json.NewDecoder(res.Body).Decode(into); err != nil {
		return failure{fmt.Errorf("%s answers something else: %w", c.base.Host, err)}
	}
	return nil
}

// maxForeign is how much is shown of what is no problem of ours, in bytes.
const maxForeign = 200

// operatorProblem is what a response of RFC 9457 says, or its status where it is none, with the begin of what it says: it may be of any server,
// and is shown on a terminal.
func operatorProblem(res *http.Response) error {
	var p struct {
		Detail string `json:"detail"`
	}
	text, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10)) // what there is says enough
	if json.Unmarshal(text, &p) != nil || p.Detail == "" {
		p.Detail = strings.Join(strings.Fields(string(text)), " ")
		if len(p.Detail) > maxForeign {
			p.Detail = p.Detail[:maxForeign] + " ..."
		}
	}
	return errors.New(printable(strings.TrimSuffix(res.Status+": "+p.Detail, ": ")))
}
