package proxy

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

// What must be validated for each request is not shared by a 304 either: the origin may have looked at who asked (RFC 9111 section
// 5.2.2.4).
func TestValidationForOneIsNoneForAnother(t *testing.T) {
	for _, c := range []struct{ stored, control string }{
		{"public, no-cache", "public, no-cache"}, {"max-age=0, must-revalidate", "max-age=0, must-revalidate"}, {"s-maxage=0", "s-maxage=0"},
		{"public, max-age=10", "public, no-cache"}, {"public, max-age=10", "max-age=0, must-revalidate"},
	} {
		t.Run(c.stored+" then "+c.control, func(t *testing.T) {
			onStage(t, func(s *stage) {
				a := s.ask("/", "Authorization: Bearer good")
				(<-s.calls).whole(200, "secret", "Cache-Control: "+c.stored, `ETag: "1"`)
				wantAll(t, []*asker{a}, 200, "secret")
				time.Sleep(11 * time.Second)
				good := s.ask("/", "Authorization: Bearer good")
				first := <-s.calls
				bad := s.ask("/", "Authorization: Bearer bad")
				synctest.Wait()
				first.whole(304, "", "Cache-Control: "+c.control, `ETag: "1"`)
				wantAll(t, []*asker{good}, 200, "secret")
				select {
				case second := <-s.calls:
					if got := second.Header.Get("Authorization"); got != "Bearer bad" {
						t.Errorf("Authorization: %s", got)
					}
					second.whole(401, "who are you?")
				case <-bad.done:
				}
				wantAll(t, []*asker{bad}, 401, "who are you?")
			})
		})
	}
}

// What a 304 has made fresh answers all who waited for it.
func TestValidationIsSharedWhereItMakesFresh(t *testing.T) {
	onStage(t, func(s *stage) {
		a := s.ask("/")
		(<-s.calls).whole(200, "one", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, []*asker{a}, 200, "one")
		time.Sleep(11 * time.Second)
		all := s.askMany(50, "/")
		synctest.Wait()
		(<-s.calls).whole(http.StatusNotModified, "", "Cache-Control: max-age=10", `ETag: "1"`)
		wantAll(t, all, 200, "one")
		s.wantCalls(2)
	})
}

// Each variant is validated once, however many ask for it at once.
func TestVariantsAreValidatedOnceEach(t *testing.T) {
	onStage(t, func(s *stage) {
		langs := []string{"de", "en"}
		go func() {
			for c := range s.calls {
				lang := c.Header.Get("X-Lang")
				fields := []string{"Cache-Control: max-age=10", "Vary: X-Lang", `ETag: "` + lang + `"`}
				if c.Header.Get("If-None-Match") == "" {
					c.whole(200, lang, fields...)
					continue
				}
				time.Sleep(time.Second) // all come meanwhile
				c.whole(304, "", fields...)
			}
		}()
		defer close(s.calls)
		for _, lang := range langs {
			wantAll(t, s.askMany(1, "/", "X-Lang: "+lang), 200, lang)
		}
		time.Sleep(11 * time.Second)
		all := map[string][]*asker{}
		for _, lang := range langs {
			all[lang] = s.askMany(20, "/", "X-Lang: "+lang)
		}
		for _, lang := range langs {
			wantAll(t, all[lang], 200, lang)
		}
		s.wantCalls(4)
	})
}
