package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"cacheproxy/cmd/cacheproxy/internal/trial"
	"cacheproxy/proxy"
)

func newExplain() *cobra.Command {
	var question proxy.Question
	var fields []string
	var exchange string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "explain URL",
		Short: "Say what a request would meet, and why",
		Long: `Explain asks a running cacheproxy, on its operator's listener, what a request would meet at this moment: site and rule, the key and
how it came about, the stored response, what is decided and for what reason, what would be forwarded, and what Cache-Status would say.
Nothing is fetched, stored, counted or logged by asking.

With --exchange nothing is asked: a request and its response, recorded in a YAML file, are taken through the proxy itself with the rules
of --config, on a clock of their own. It says whether the response would be stored, why not, for how long, and what the next request
would get.

  time: 2026-11-25T12:00:00Z        # when the response came; default: its Date, or else now
  request: GET https://shop.example/products/1
  response: |                       # as curl -i prints it; or {status: 200, header: {...}}
    HTTP/1.1 200 OK
    Cache-Control: max-age=60`,
		Example: `  cacheproxy explain https://shop.example/products/1
  cacheproxy explain -X HEAD -H 'Accept-Language: de' --client 192.0.2.7 http://127.0.0.1:8080/ --json
  cacheproxy explain --config cacheproxy.yaml --exchange exchange.yaml`,
		Args: func(_ *cobra.Command, arguments []string) error {
			switch {
			case exchange != "" && len(arguments) > 0:
				return errors.New("--exchange takes the URL from its file")
			case exchange == "" && len(arguments) != 1:
				return errors.New("explain needs one URL, or --exchange FILE")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, arguments []string) error {
			if exchange != "" {
				return explainRecorded(cmd, exchange, asJSON)
			}
			if cmd.Flags().Changed("config") {
				return errors.New("--config is for --exchange: a running cacheproxy has its own")
			}
			question.URL = arguments[0]
			if err := addFields(&question, fields); err != nil {
				return err
			}
			return explainRunning(cmd, question, asJSON)
		},
	}
	cmd.Flags().StringVarP(&question.Method, "request", "X", "", "`method` of the request (default GET)")
	cmd.Flags().StringArrayVarP(&fields, "header", "H", nil, "`field` of the request, 'Name: value'; may be repeated")
	cmd.Flags().StringVar(&question.Client, "client", "", "`address` that the request comes from (default: one that nobody trusts)")
	cmd.Flags().StringVar(&exchange, "exchange", "", "YAML `file` with a recorded request and response, instead of a running cacheproxy")
	cmd.Flags().String("config", "", "YAML `file` with the configuration, for --exchange")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	addOperator(cmd)
	return cmd
}

// addFields gives the question its fields, "Name: value" each, and checks all of it.
func addFields(q *proxy.Question, fields []string) error {
	for _, field := range fields {
		name, value, found := strings.Cut(field, ":")
		if !found {
			return fmt.Errorf("-H: %q is no field: write 'Name: value'", field)
		}
		q.Header = append(q.Header, [2]string{name, strings.TrimSpace(value)})
	}
	_, err := q.Request(context.Background())
	return err
}

// explainRunning asks the process.
func explainRunning(cmd *cobra.Command, q proxy.Question, asJSON bool) error {
	client, err := newOperatorClient(cmd)
	if err != nil {
		return err
	}
	res, err := client.do(cmd.Context(), http.MethodPost, "/v1/explain", nil, q)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var e proxy.Explanation
	if err := json.NewDecoder(res.Body).Decode(&e); err != nil {
		return failure{fmt.Errorf("%s answers something else than an explanation: %w", client.base.Host, err)}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), e)
	}
	return printExplanation(cmd.OutOrStdout(), &e)
}

// recorded is what explain says of a recorded exchange.
type recorded struct {
	Time    time.Time `json:"time"`
	Request string    `json:"request"`
	Status  int       `json:"status"` // what the client was sent
	Outcome string    `json:"outcome"`
	Stored  bool      `json:"stored"`
	// Why says why it was not stored.
	Why         *proxy.ExplainedReason `json:"why,omitempty"`
	CacheStatus string                 `json:"cache_status"`
	Next        proxy.Explanation      `json:"next"`            // the same request, at once
	Later       *proxy.Explanation     `json:"later,omitempty"` // when the response is stale
}

// explainRecorded plays a recorded exchange.
func explainRecorded(cmd *cobra.Command, file string, asJSON bool) error {
	exchange, err := trial.ReadRecorded(file, time.Now())
	if err != nil {
		return err
	}
	options, err := stageOptions(cmd, file, exchange.Config)
	if err != nil {
		return err
	}
	options.Start = exchange.Time.Time
	told, err := playRecorded(exchange, options)
	if err != nil {
		return failure{err}
	}
	if asJSON {
		return printJSON(cmd.OutOrStdout(), told)
	}
	return printRecorded(cmd.OutOrStdout(), told)
}

func playRecorded(exchange *trial.Recorded, options trial.Options) (told *recorded, err error) {
	stage, err := trial.NewStage(options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stage.Close()) }()
	played, err := stage.Play(exchange.Request, &exchange.Response)
	if err != nil {
		return nil, err
	}
	told = &recorded{
		Time: options.Start.UTC(), Request: exchange.Request.String(), Status: played.Status, Outcome: played.Outcome.Label(),
		Stored: played.Outcome.Stored, CacheStatus: string(played.Outcome.AppendCacheStatus(nil, options.Proxy.Cache.Name)),
	}
	if why := played.Outcome.Detail; !told.Stored {
		told.Why = &proxy.ExplainedReason{Reason: why.String(), Section: why.Section(), Sentence: why.Sentence()}
		if fwd := played.Outcome.Fwd; why == 0 {
			told.Why.Section, told.Why.Sentence = fwd.Section(), fwd.Sentence()
		}
	}
	if told.Next, err = stage.Explain(exchange.Request); err != nil || told.Next.Stored == nil || told.Next.Stored.TTL <= 0 {
		return told, err
	}
	stage.Advance(time.Duration(told.Next.Stored.TTL) + time.Second)
	later, err := stage.Explain(exchange.Request)
	told.Later = &later
	return told, err
}
