// A conversation of go-redis with the node at the port that is given, in both versions of the protocol.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

func must(holds bool, seen ...any) {
	if !holds {
		panic(fmt.Sprint(seen...))
	}
}

func converse(version int) {
	ctx := context.Background()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:" + os.Args[1], Protocol: version, MaxRetries: -1})
	defer client.Close()
	client.Del(ctx, "go", "go2", "gon")
	must(client.Set(ctx, "go", "1", 0).Err() == nil)
	value, err := client.Get(ctx, "go").Result()
	must(err == nil && value == "1", value, err)
	must(client.Get(ctx, "none").Err() == redis.Nil)
	written, err := client.SetNX(ctx, "go", "2", time.Minute).Result()
	must(err == nil && !written, err)
	written, err = client.SetXX(ctx, "go", "2", time.Minute).Result()
	must(err == nil && written, err)
	left, err := client.TTL(ctx, "go").Result()
	must(err == nil && left > 0 && left <= time.Minute, left, err)
	sum, err := client.IncrBy(ctx, "gon", 42).Result()
	must(err == nil && sum == 42, sum, err)
	float, err := client.IncrByFloat(ctx, "gon", 0.5).Result()
	must(err == nil && float == 42.5, float, err)
	must(client.MSet(ctx, "go2", "x").Err() == nil)
	values, err := client.MGet(ctx, "go", "go2", "none").Result()
	must(err == nil && slices.Equal(values, []any{"2", "x", nil}), values, err)
	pipeline := client.Pipeline()
	for number := range 100 {
		pipeline.Set(ctx, fmt.Sprint("pipe", number), number, 0)
	}
	for number := range 100 {
		pipeline.Get(ctx, fmt.Sprint("pipe", number))
	}
	answers, err := pipeline.Exec(ctx)
	must(err == nil && answers[150].(*redis.StringCmd).Val() == "50", err)
	for number := range 100 {
		must(client.Del(ctx, fmt.Sprint("pipe", number)).Val() == 1)
	}
	var keys []string
	pages := client.Scan(ctx, 0, "go*", 10).Iterator()
	for pages.Next(ctx) {
		keys = append(keys, pages.Val())
	}
	slices.Sort(keys)
	must(pages.Err() == nil && slices.Equal(keys, []string{"go", "go2", "gon"}), keys, pages.Err())
	before, err := client.SetArgs(ctx, "go", "9", redis.SetArgs{Get: true, KeepTTL: true}).Result()
	must(err == nil && before == "2", before, err)
	must(client.GetDel(ctx, "go2").Val() == "x" && client.GetEx(ctx, "go", time.Hour).Val() == "9")
	_, err = client.TxPipelined(ctx, func(pipeline redis.Pipeliner) error {
		pipeline.Set(ctx, "go", "never", 0)
		return nil
	})
	must(err != nil && strings.Contains(err.Error(), "not served"), err)
	must(client.Get(ctx, "go").Val() == "9", "nothing of a refused transaction is done")
	seen, err := client.Do(ctx, "QGETV", "go").Slice()
	must(err == nil && len(seen) == 2, err)
	must(client.Do(ctx, "QCAS", "go", seen[0], "10").Err() == nil)
	must(client.Do(ctx, "QCAS", "go", seen[0], "11").Err() == redis.Nil)
	commands, err := client.Command(ctx).Result()
	must(err == nil && len(commands) > 40, err)
	must(client.Info(ctx).Err() == nil && client.Time(ctx).Err() == nil && client.ClientID(ctx).Err() == nil)
	client.Del(ctx, "go", "gon")
}

func main() {
	converse(2)
	converse(3)
	fmt.Println("go-redis is content in RESP2 and RESP3")
}
