package store

import (
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"cacheproxy/redistest"
)

// The two commands of a lookup in a pipeline of their own, as the store sends them, beside the client library's automatic pipelining, which
// gathers the commands of all requests of a moment, by how many requests there are at once. In turns, processor time of this process.
//
//	go test ./store -run '^$' -bench Pipelining
func BenchmarkPipelining(b *testing.B) {
	const batch = 2000
	server := redistest.Start(b)
	client := dial(b, server.URL(), DialOptions{Timeout: patience}).(*redis.Client)
	auto, err := client.AsyncAutoPipeline()
	if err != nil {
		b.Fatal(err)
	}
	s := newStore(b, farOptions(client))
	e := saved(b, s, typicalDraft(1<<10))
	keys := newKeyspace("cp").of(e.URL())
	root, entry := keys.root, keys.entryKey(e.variant())
	ways := []struct {
		name string
		do   func() bool
	}{
		{"own", func() bool {
			pipe := client.Pipeline()
			r, g := pipe.HGetAll(b.Context(), root), pipe.Get(b.Context(), entry)
			_, _ = pipe.Exec(b.Context())
			return r.Err() == nil && g.Err() == nil
		}},
		{"auto", func() bool {
			r, g := auto.HGetAll(b.Context(), root), auto.Get(b.Context(), entry)
			return r.Err() == nil && g.Err() == nil
		}},
	}
	for _, askers := range []int{1, 4, 16, 64, 256} {
		b.Run(fmt.Sprint(askers), func(b *testing.B) {
			cpu := make([][]float64, len(ways))
			for b.Loop() {
				for i, way := range ways {
					before := processorTime(b)
					var wg sync.WaitGroup
					for range askers {
						wg.Go(func() {
							for range batch / askers {
								if !way.do() {
									b.Error(way.name)
									return
								}
							}
						})
					}
					wg.Wait()
					cpu[i] = append(cpu[i], float64(processorTime(b)-before)/batch)
				}
			}
			for i, way := range ways {
				slices.Sort(cpu[i])
				b.ReportMetric(cpu[i][len(cpu[i])/2], way.name+"-cpu-ns")
			}
		})
	}
}
