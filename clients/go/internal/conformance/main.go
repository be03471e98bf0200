// Command conformance plays the cases with the Go client: conformance FOLDER plain|routing. clients/README.md has the questions that it asks.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"quorate"
)

// object is a JSON object.
type object = map[string]any

// harness is who starts nodes, disturbs them, and judges what was found.
type harness struct {
	mu    sync.Mutex
	lines *bufio.Reader
}

func (h *harness) ask(question object) object {
	h.mu.Lock()
	defer h.mu.Unlock()
	line, err := json.Marshal(question)
	if err != nil {
		panic(err)
	}
	fmt.Println(string(line))
	answer, err := h.lines.ReadBytes('\n')
	if err != nil {
		fmt.Fprintln(os.Stderr, "nobody answers any more:", err)
		os.Exit(1)
	}
	var told object
	if err := json.Unmarshal(answer, &told); err != nil {
		panic(err)
	}
	return told
}

func (h *harness) fault(fault object) {
	h.ask(object{"ask": "fault", "fault": fault["fault"], "node": fault["node"]})
}

func main() {
	h := &harness{lines: bufio.NewReaderSize(os.Stdin, 1<<20)}
	files, err := filepath.Glob(filepath.Join(os.Args[1], "*.json"))
	if err != nil || len(files) == 0 {
		fmt.Fprintln(os.Stderr, "no cases in", os.Args[1])
		os.Exit(2)
	}
	routes := len(os.Args) > 2 && os.Args[2] == "routing"
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			panic(err)
		}
		var cases []object
		if err := json.Unmarshal(text, &cases); err != nil {
			panic(err)
		}
		for _, one := range cases {
			// Nodes of a case do not say who they are.
			if !routes || one["fakes"] == nil {
				play(h, one, routes)
			}
		}
	}
}

func play(h *harness, one object, routes bool) {
	started := h.ask(object{"ask": "start", "case": one})
	c := &player{harness: h, one: one, saved: object{}, routes: routes}
	client, err := c.newClient(started)
	if err != nil {
		panic(err)
	}
	c.client = client
	problem := c.play()
	if err := client.Close(); err != nil && problem == "" {
		problem = err.Error()
	}
	end := object{"ask": "end", "case": one["case"]}
	if problem != "" {
		end["problem"] = problem
	}
	h.ask(end)
}

// player plays one case, with a client of its own.
type player struct {
	harness *harness
	one     object
	client  *quorate.Client
	saved   object
	routes  bool
}

// newClient returns a client of the addresses, with the token and the files that are given beside them.
func (p *player) newClient(given object) (*quorate.Client, error) {
	var addresses []string
	for _, address := range given["addresses"].([]any) {
		addresses = append(addresses, address.(string))
	}
	options := []quorate.Option{quorate.WithDeadline(millis(p.one, "deadline_ms", 5000))}
	token, ok := given["token"].(string)
	if !ok {
		token, ok = p.one["token"].(string)
	}
	if ok {
		options = append(options, quorate.WithToken(token))
	}
	if file := text(given, "token_file"); file != "" {
		options = append(options, quorate.WithTokenFile(file))
	}
	files := quorate.TLSFiles{CA: text(given, "ca_file"), Certificate: text(given, "certificate_file"), Key: text(given, "key_file")}
	if files != (quorate.TLSFiles{}) {
		options = append(options, quorate.WithTLSFiles(files))
	}
	if p.routes {
		options = append(options, quorate.WithRouting())
	}
	return quorate.New(addresses, options...)
}

// play returns what is wrong, if anything is.
func (p *player) play() string {
	ctx := context.Background()
	for index, step := range p.one["steps"].([]any) {
		step := p.fillIn(step).(object)
		times := 1
		if repeated, ok := step["times"].(float64); ok && step["workers"] == nil {
			times = int(repeated)
		}
		var found object
		for range times {
			began := time.Now()
			var err error
			found, err = p.do(ctx, step)
			if err != nil {
				found = object{"error": errorOut(err)}
			}
			judged := p.harness.ask(object{
				"ask": "judge", "index": index, "step": step, "found": found, "took_ms": time.Since(began).Milliseconds(),
			})
			if problem, ok := judged["problem"].(string); ok {
				return problem
			}
		}
		if save, ok := step["save"].(object); ok {
			for name, member := range save {
				p.saved[name] = found[member.(string)]
			}
		}
	}
	return ""
}

// fillIn returns the step with what earlier ones have saved.
func (p *player) fillIn(step any) any {
	switch step := step.(type) {
	case object:
		filled := object{}
		for name, value := range step {
			if name == "save" {
				filled[name] = value
				continue
			}
			filled[name] = p.fillIn(value)
		}
		return filled
	case []any:
		filled := make([]any, len(step))
		for i, value := range step {
			filled[i] = p.fillIn(value)
		}
		return filled
	case string:
		if len(step) > 1 && step[0] == '$' {
			return p.saved[step[1:]]
		}
	}
	return step
}

func errorOut(err error) any {
	if err == nil {
		return nil
	}
	var failed *quorate.Error
	if !errors.As(err, &failed) {
		return object{"kind": "OTHER", "message": err.Error()}
	}
	out := object{"kind": failed.Kind.String(), "message": err.Error(), "version": failed.Version, "has_value": failed.HasValue}
	if failed.Node != nil {
		out["reason"] = failed.Node.Reason
	}
	return out
}

func millis(step object, name string, otherwise float64) time.Duration {
	number, ok := step[name].(float64)
	if !ok {
		number = otherwise
	}
	return time.Duration(number * float64(time.Millisecond))
}

func text(step object, name string) string {
	found, _ := step[name].(string)
	return found
}

func flag(step object, name string) bool {
	found, _ := step[name].(bool)
	return found
}
