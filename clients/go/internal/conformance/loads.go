package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"quorate"
)

// loaded runs the workers while the faults of the step happen. It returns what they report as wrong.
func (p *player) loaded(step object, work func(number, time int) error) []string {
	errs := []string{}
	var mu sync.Mutex
	var tasks sync.WaitGroup
	tasks.Go(func() {
		faults, _ := step["faults"].([]any)
		for _, fault := range faults {
			fault := fault.(object)
			time.Sleep(millis(fault, "after_ms", 0))
			p.harness.fault(fault)
		}
	})
	for number := range int(step["workers"].(float64)) {
		tasks.Go(func() {
			for turn := range int(step["times"].(float64)) {
				if err := work(number, turn); err != nil {
					mu.Lock()
					errs = append(errs, err.Error())
					mu.Unlock()
				}
				time.Sleep(millis(step, "pause_ms", 0))
			}
		})
	}
	tasks.Wait()
	p.harness.fault(object{"fault": "wait"})
	return errs
}

// counter counts what was acknowledged, and what may have happened.
type counter struct {
	mu             sync.Mutex
	acked, unknown int
}

func (c *counter) count(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.acked++
	case errors.Is(err, quorate.ErrOutcomeUnknown):
		c.unknown++
	default:
		return err
	}
	return nil
}

func (p *player) counted(ctx context.Context, key string, c *counter, errs []string) object {
	final := -1
	found, err := p.client.Get(ctx, key)
	if err == nil && found != nil {
		final, err = strconv.Atoi(found.Value.String())
	}
	if err != nil {
		errs = append(errs, err.Error())
	}
	holds := c.acked <= final && final <= c.acked+c.unknown
	return object{"holds": holds, "acked": c.acked, "unknown": c.unknown, "final": final, "errors": errs}
}

func (p *player) count(ctx context.Context, step object) object {
	key := text(step, "key")
	var c counter
	versions := make([]string, int(step["workers"].(float64)))
	errs := p.loaded(step, func(number, _ int) error {
		for {
			if versions[number] == "" {
				state, err := p.client.State(ctx, key)
				if err != nil {
					return err
				}
				versions[number] = state.Version
			}
			added, err := p.client.Add(ctx, key, 1, quorate.Since(versions[number]))
			var failed *quorate.Error
			if errors.As(err, &failed) && failed.Kind == quorate.ConditionFailed {
				versions[number] = failed.Version
				continue
			}
			versions[number] = added.Version
			return c.count(err)
		}
	})
	return p.counted(ctx, key, &c, errs)
}

func (p *player) updateCount(ctx context.Context, step object) object {
	key := text(step, "key")
	var c counter
	errs := p.loaded(step, func(int, int) error {
		_, err := p.client.Update(ctx, key, func(old *quorate.Versioned) (*quorate.Value, error) {
			number := 0
			if old != nil {
				var err error
				if number, err = strconv.Atoi(old.Value.String()); err != nil {
					return nil, err
				}
			}
			value := quorate.Text(strconv.Itoa(number + 1))
			return &value, nil
		})
		return c.count(err)
	})
	return p.counted(ctx, key, &c, errs)
}

func (p *player) writeRead(ctx context.Context, step object) object {
	var c counter
	possible := make([]map[string]bool, int(step["workers"].(float64)))
	for i := range possible {
		possible[i] = map[string]bool{"": true}
	}
	errs := p.loaded(step, func(number, turn int) error {
		key, value := fmt.Sprintf("%s%d", text(step, "prefix"), number), strconv.Itoa(turn)
		_, err := p.client.Set(ctx, key, quorate.Text(value))
		if err == nil {
			possible[number] = map[string]bool{}
		}
		if !errors.Is(err, quorate.ErrNotApplied) {
			possible[number][value] = true
			if err := c.count(err); err != nil {
				return err
			}
		}
		found, err := p.client.Get(ctx, key)
		if err != nil {
			return err
		}
		seen := ""
		if found != nil {
			seen = found.Value.String()
		}
		if !possible[number][seen] {
			return fmt.Errorf("read %q, one of %v was written", seen, possible[number])
		}
		return nil
	})
	return object{"holds": len(errs) == 0, "acked": c.acked, "unknown": c.unknown, "errors": errs}
}

func (p *player) copy(ctx context.Context, step object) object {
	prefix := text(step, "prefix")
	end := prefix + "end"
	var mu sync.Mutex
	kept, resets := map[string]string{}, 0
	told := make(chan struct{})
	ended := make(chan error, 1)
	following, cancel := context.WithCancel(ctx)
	go func() {
		isTold := false
		for event, err := range p.client.Watch(prefix, quorate.WithList(), quorate.WatchValues()).Events(following) {
			if err != nil {
				ended <- err
				return
			}
			mu.Lock()
			switch event.Kind {
			case quorate.Changed:
				kept[event.Key] = event.Value.String()
				if event.Key == end && !isTold {
					isTold = true
					close(told)
				}
			case quorate.Deleted:
				delete(kept, event.Key)
			case quorate.Reset:
				clear(kept)
				resets++
			}
			mu.Unlock()
		}
	}()
	errs := p.loaded(step, func(number, turn int) error {
		key := fmt.Sprintf("%s%d:%d", prefix, number, turn%20)
		var err error
		if turn%5 == 4 {
			_, err = p.client.Delete(ctx, key)
		} else {
			_, err = p.client.Set(ctx, key, quorate.Text(fmt.Sprint(number, " ", turn)))
		}
		if errors.Is(err, quorate.ErrOutcomeUnknown) {
			return nil
		}
		return err
	})
	if _, err := p.client.Set(ctx, end, quorate.Text("end")); err != nil {
		errs = append(errs, err.Error())
	}
	select {
	case <-told:
	case err := <-ended:
		errs = append(errs, err.Error())
	case <-time.After(20 * time.Second):
		errs = append(errs, "the watch did not tell the end")
	}
	// Nothing is promised across keys: what is told of others may come after the end.
	holds, there := false, map[string]string{}
	for range 100 {
		clear(there)
		for listed, err := range p.client.List(ctx, prefix, quorate.ListValues()) {
			if err != nil {
				errs = append(errs, err.Error())
				break
			}
			there[listed.Key] = listed.Value.String()
		}
		mu.Lock()
		holds = maps.Equal(kept, there)
		mu.Unlock()
		if holds {
			break
		}
		time.Sleep(50 * time.Millisecond)
	}
	cancel()
	return object{"holds": holds, "keys": len(there), "resets": resets, "errors": errs}
}

func (p *player) fill(ctx context.Context, step object) error {
	keys, value := int(step["keys"].(float64)), make([]byte, int(step["bytes"].(float64)))
	for first := 0; first < keys; first += 500 {
		var writes []quorate.Write
		for number := first; number < min(first+500, keys); number++ {
			writes = append(writes, p.client.ToSet(fmt.Sprintf("%s%05d", text(step, "prefix"), number), quorate.Binary(value)))
		}
		results, err := p.client.BatchWrite(ctx, writes...)
		if err != nil {
			return err
		}
		for _, result := range results {
			if result.Err != nil {
				return result.Err
			}
		}
	}
	return nil
}

func (p *player) listUnderFault(ctx context.Context, step object) (object, error) {
	var keys []string
	for listed, err := range p.client.List(ctx, text(step, "prefix"), quorate.ListValues()) {
		if err != nil {
			return nil, err
		}
		if keys = append(keys, listed.Key); len(keys) == int(step["after_keys"].(float64)) {
			for _, fault := range step["faults"].([]any) {
				p.harness.fault(fault.(object))
			}
		}
	}
	inOrder := slices.IsSorted(keys) && len(slices.Compact(slices.Clone(keys))) == len(keys)
	return object{"count": len(keys), "in_order": inOrder}, nil
}
