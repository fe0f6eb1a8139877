package trial

import "fmt"

// Result is what came of a file.
type Result struct {
	File  string       `json:"file"`
	OK    bool         `json:"ok"`
	Cases []CaseResult `json:"cases"`
}

// CaseResult is what came of a case; it ends with the first step that fails.
type CaseResult struct {
	Name  string       `json:"name"`
	Line  int          `json:"line"`
	OK    bool         `json:"ok"`
	Steps []StepResult `json:"steps"`
}

// StepResult is what came of a step.
type StepResult struct {
	Line        int          `json:"line"`
	Request     string       `json:"request"`
	Status      int          `json:"status"`
	CacheStatus string       `json:"cache_status"`
	Differences []Difference `json:"differences,omitempty"`
}

// Run plays all cases of a file, each on a stage of its own.
func (f *File) Run(o Options) (Result, error) {
	result := Result{File: f.name, OK: true}
	for i := range f.Cases {
		o.Start = f.Time.Time
		if t := f.Cases[i].Time; !t.IsZero() {
			o.Start = t.Time
		}
		c, err := f.runCase(i, o)
		if err != nil {
			return result, fmt.Errorf("%s:%d: %s: %w", f.name, c.Line, c.Name, err)
		}
		result.Cases = append(result.Cases, c)
		result.OK = result.OK && c.OK
	}
	return result, nil
}

func (f *File) runCase(i int, o Options) (c CaseResult, err error) {
	path := fmt.Sprintf("cases[%d]", i)
	c = CaseResult{Name: f.Cases[i].Name, Line: f.Line(path), OK: true}
	stage, err := NewStage(o)
	if err != nil {
		return c, err
	}
	defer func() {
		if failed := stage.Close(); err == nil {
			err = failed
		}
	}()
	for k := range f.Cases[i].Steps {
		step := &f.Cases[i].Steps[k]
		stage.Advance(step.After.Std())
		p, err := stage.Play(step.Request, step.Response)
		if err != nil {
			return c, err
		}
		s := StepResult{
			Line: f.Line(fmt.Sprintf("%s.steps[%d]", path, k)), Request: step.Request.String(), Status: p.Status,
			CacheStatus: string(p.Outcome.AppendCacheStatus(nil, name(o))),
			Differences: step.Expect.compare(&p, stage.Now()),
		}
		c.Steps = append(c.Steps, s)
		if len(s.Differences) > 0 {
			c.OK = false
			return c, nil // what follows would only follow from it
		}
	}
	return c, nil
}

// name is what the cache calls itself.
func name(o Options) string {
	if o.Proxy.Cache.Name == "" {
		return "cacheproxy"
	}
	return o.Proxy.Cache.Name
}
