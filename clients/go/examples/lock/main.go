// Command lock shows a lock with a fencing token: of three goroutines, one at a time works on something.
//
// The lock ends by itself where its holder dies. A holder that is paused can lose it without notice. So each holder has a token, a
// number that is greater than that of every holder before it. What the lock protects refuses a smaller one.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"quorate"
)

const ttl = 10 * time.Second

// Lock is a lock that is held.
type Lock struct {
	client  *quorate.Client
	key     string
	version string
	// Token is greater than that of every holder before this one.
	Token int64
}

// tryTake takes the lock. It returns nil where somebody has it.
func tryTake(ctx context.Context, client *quorate.Client, key string) (*Lock, error) {
	state, err := client.State(ctx, key)
	if err != nil || state.Found != nil {
		return nil, err
	}
	// An absence has a version too. A write that names a version is sent again where a node dies.
	me := strconv.FormatUint(rand.Uint64(), 16)
	taken, err := client.Set(ctx, key, quorate.Text(me), quorate.IfVersion(state.Version), quorate.TTL(ttl))
	if isLost(err) {
		// A lock that was perhaps taken ends by itself.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	// A token that is drawn in vain does no harm.
	drawn, err := client.Add(ctx, key+"/tokens", 1)
	for errors.Is(err, quorate.ErrOutcomeUnknown) && ctx.Err() == nil {
		drawn, err = client.Add(ctx, key+"/tokens", 1)
	}
	if err != nil {
		return nil, err
	}
	lock := &Lock{client, key, taken.Version, drawn.Value}
	if isHeld, err := lock.keep(ctx); err != nil || !isHeld {
		return nil, err
	}
	return lock, nil
}

// keep keeps the lock for another time to live. It reports false if the lock is lost.
func (l *Lock) keep(ctx context.Context) (bool, error) {
	value := quorate.Text(strconv.FormatInt(l.Token, 10))
	held, err := l.client.Set(ctx, l.key, value, quorate.IfVersion(l.version), quorate.TTL(ttl))
	if isLost(err) {
		return false, nil
	}
	l.version = held.Version
	return err == nil, err
}

// release gives the lock back. A lock that is lost is left alone.
func (l *Lock) release(ctx context.Context) error {
	_, err := l.client.Delete(ctx, l.key, quorate.IfVersion(l.version))
	if isLost(err) {
		return nil
	}
	return err
}

// isLost reports whether the lock is another one's, or perhaps is.
func isLost(err error) bool {
	return errors.Is(err, quorate.ErrConditionFailed) || errors.Is(err, quorate.ErrOutcomeUnknown)
}

// write writes to what the lock protects. It reports false if a later holder has written already.
func write(ctx context.Context, client *quorate.Client, key string, token int64) (bool, error) {
	written, err := client.Update(ctx, key, func(old *quorate.Versioned) (*quorate.Value, error) {
		var seen, turns int64
		if old != nil {
			if _, err := fmt.Sscan(old.Value.String(), &seen, &turns); err != nil {
				return nil, err
			}
		}
		if seen >= token {
			return nil, nil
		}
		value := quorate.Text(fmt.Sprint(token, " ", turns+1))
		return &value, nil
	})
	return written != nil, err
}

var printed, perhaps atomic.Int64

func work(ctx context.Context, client *quorate.Client) error {
	for range 4 {
		lock, err := tryTake(ctx, client, "printer")
		for ; lock == nil && err == nil; lock, err = tryTake(ctx, client, "printer") {
			time.Sleep(50 * time.Millisecond)
		}
		if err != nil {
			return err
		}
		isHeld, err := lock.keep(ctx)
		if err == nil && isHeld {
			isHeld, err = write(ctx, client, "printer/page", lock.Token)
		}
		switch {
		case errors.Is(err, quorate.ErrOutcomeUnknown):
			perhaps.Add(1)
		case err != nil:
			return err
		case isHeld:
			printed.Add(1)
			fmt.Println("printed, with token", lock.Token)
		default:
			fmt.Println("lost the lock")
		}
		if err := lock.release(ctx); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	ctx := context.Background()
	addresses := cmp.Or(os.Getenv("QUORATE_ADDRESS"), "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003")
	client, err := quorate.New(strings.Split(addresses, ","))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Delete(ctx, "printer/page"); err != nil {
		log.Fatal(err)
	}
	var workers sync.WaitGroup
	for range 3 {
		workers.Go(func() {
			if err := work(ctx, client); err != nil {
				log.Fatal(err)
			}
		})
	}
	workers.Wait()
	page, err := client.Get(ctx, "printer/page")
	if err != nil || page == nil {
		log.Fatal("no page: ", err)
	}
	var token, turns int64
	_, err = fmt.Sscan(page.Value.String(), &token, &turns)
	if err != nil || turns < printed.Load() || turns > printed.Load()+perhaps.Load() {
		log.Fatalf("%v, and %d pages were printed", page.Value, printed.Load())
	}
	fmt.Println("each page was printed once")
}
