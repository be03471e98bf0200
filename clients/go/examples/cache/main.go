// Command cache keeps a copy of all keys with a prefix in memory, which follows the cluster and misses no write.
//
// A read of it may be older than a write that has ended: a program that needs the latest value asks the cluster.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"sync"
	"time"

	"quorate"
)

// Cache is a copy of all keys with a prefix.
type Cache struct {
	mu     sync.RWMutex
	values map[string]string
}

// Get returns the value of a key, as far as the cache knows, and whether there is one.
func (c *Cache) Get(key string) (string, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	value, ok := c.values[key]
	return value, ok
}

// Len is the number of keys.
func (c *Cache) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(c.values)
}

// Follow follows the cluster until the context ends. It calls ready once all that is there was copied.
func (c *Cache) Follow(ctx context.Context, client *quorate.Client, prefix string, ready func()) error {
	// What is there is told before Ready, at first and after a Reset. The old copy serves until the new one is complete.
	values := map[string]string{}
	for event, err := range client.Watch(prefix, quorate.WithList(), quorate.WatchValues()).Events(ctx) {
		if err != nil {
			return err
		}
		c.mu.Lock()
		switch event.Kind {
		case quorate.Changed:
			values[event.Key] = event.Value.String()
		case quorate.Deleted:
			delete(values, event.Key)
		case quorate.Reset:
			values = map[string]string{}
		case quorate.Ready:
			c.values = values
		}
		c.mu.Unlock()
		if event.Kind == quorate.Ready {
			ready()
		}
	}
	return nil
}

func main() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	addresses := cmp.Or(os.Getenv("QUORATE_ADDRESS"), "127.0.0.1:8001,127.0.0.1:8002,127.0.0.1:8003")
	client, err := quorate.New(strings.Split(addresses, ","))
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	set := func(key, value string) {
		if _, err := client.Set(ctx, key, quorate.Text(value)); err != nil {
			log.Fatal(err)
		}
	}
	set("user:1", "Ada")
	cache, ready := &Cache{}, make(chan struct{})
	go func() {
		if err := cache.Follow(ctx, client, "user:", sync.OnceFunc(func() { close(ready) })); !errors.Is(err, context.Canceled) {
			log.Fatal(err)
		}
	}()
	<-ready
	value, _ := cache.Get("user:1")
	fmt.Println("first:", value)
	for number := range 99 {
		set(fmt.Sprint("user:", number+2), "Bob")
	}
	set("user:1", "Ada Lovelace")
	if _, err := client.Delete(ctx, "user:2"); err != nil {
		log.Fatal(err)
	}
	// A change is told a moment after it was made.
	for range 1000 {
		if value, _ = cache.Get("user:1"); value == "Ada Lovelace" && cache.Len() == 99 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Println("now:", value, "of", cache.Len())
}
