// Command counter counts each event once, although nodes die meanwhile.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"quorate"
)

// Counter is a counter, as one of its users sees it.
type Counter struct {
	client *quorate.Client
	key    string
	// seen is a version of the key that an earlier answer gave.
	seen string
}

// Add adds once, and returns the sum. The rare ErrOutcomeUnknown says that it has perhaps counted.
// So may one of very many additions at a time: a record remembers the last eight.
func (c *Counter) Add(ctx context.Context, delta int64) (int64, error) {
	if c.seen == "" {
		state, err := c.client.State(ctx, c.key)
		if err != nil {
			return 0, err
		}
		c.seen = state.Version
	}
	for {
		// An addition that names a version is sent again where a node dies, and counts once.
		added, err := c.client.Add(ctx, c.key, delta, quorate.Since(c.seen))
		var failed *quorate.Error
		switch {
		case err == nil:
			c.seen = added.Version
			return added.Value, nil
		case errors.Is(err, quorate.ErrConditionFailed) && errors.As(err, &failed):
			// Others have counted too often since. This addition certainly did not: try from here.
			c.seen = failed.Version
		default:
			return 0, err
		}
	}
}

func main() {
	ctx := context.Background()
	addresses := cmp.Or(os.Getenv("QUORATE_ADDRESS"), "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003")
	client, err := quorate.New(strings.Split(addresses, ","))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Delete(ctx, "visits"); err != nil {
		log.Fatal(err)
	}
	var counted, perhaps atomic.Int64
	var visitors sync.WaitGroup
	for range 5 {
		visitors.Go(func() {
			counter := Counter{client: client, key: "visits"}
			for range 10 {
				switch _, err := counter.Add(ctx, 1); {
				case err == nil:
					counted.Add(1)
				case errors.Is(err, quorate.ErrOutcomeUnknown):
					perhaps.Add(1)
				default:
					log.Fatal(err)
				}
			}
		})
	}
	visitors.Wait()
	found, err := client.Get(ctx, "visits")
	if err != nil || found == nil {
		log.Fatal("no visits: ", err)
	}
	visits, err := strconv.ParseInt(found.Value.String(), 10, 64)
	if err != nil || visits < counted.Load() || visits > counted.Load()+perhaps.Load() {
		log.Fatalf("%v visits, and %d were counted", found.Value, counted.Load())
	}
	fmt.Printf("%d visits, %d of unknown outcome: each counted once\n", visits, perhaps.Load())
}
