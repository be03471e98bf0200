package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"quorate"
)

func valueIn(value object) quorate.Value {
	if count, ok := value["repeat"].(float64); ok {
		return quorate.Text(strings.Repeat("x", int(count)))
	}
	if text, ok := value["text"].(string); ok {
		return quorate.Text(text)
	}
	data, err := base64.StdEncoding.DecodeString(value["base64"].(string))
	if err != nil {
		panic(err)
	}
	return quorate.Binary(data)
}

func valueOut(value *quorate.Value) any {
	switch {
	case value == nil:
		return nil
	case !value.IsText():
		return object{"base64": base64.StdEncoding.EncodeToString(value.Bytes())}
	case len(value.Bytes()) >= 1000:
		return object{"repeat": len(value.Bytes())}
	default:
		return object{"text": value.String()}
	}
}

func ttlOut(ttl time.Duration) any {
	if ttl == 0 {
		return nil
	}
	return float64(ttl) / float64(time.Millisecond)
}

func foundOut(found *quorate.Versioned) any {
	if found == nil {
		return nil
	}
	return object{
		"value": valueOut(&found.Value), "version": found.Version, "ttl_ms": ttlOut(found.TTL), "has_stamp": found.Stamp != nil,
	}
}

func writtenOut(done quorate.Acknowledged) object {
	return object{"version": done.Version, "has_stamp": done.Stamp != nil}
}

func eventOut(event quorate.Event) object {
	switch event.Kind {
	case quorate.Changed:
		return object{"set": event.Key, "version": event.Version, "value": valueOut(event.Value)}
	case quorate.Deleted:
		return object{"deleted": event.Key, "version": event.Version}
	case quorate.Ready:
		return object{"ready": true}
	default:
		return object{"reset": true}
	}
}

func tableOut(table *quorate.TableInfo) any {
	if table == nil {
		return nil
	}
	return object{
		"name": table.Name, "id": table.ID, "is_dropping": table.IsDropping, "default_ttl_ms": ttlOut(table.DefaultTTL),
		"value_bytes_max": table.ValueBytesMax, "quota_bytes": table.QuotaBytes,
	}
}

func writeOptions(step object) []quorate.WriteOption {
	var options []quorate.WriteOption
	if version, ok := step["if_version"].(string); ok {
		options = append(options, quorate.IfVersion(version))
	}
	if flag(step, "if_absent") {
		options = append(options, quorate.IfAbsent())
	}
	if flag(step, "if_present") {
		options = append(options, quorate.IfPresent())
	}
	if since, ok := step["since"].(string); ok {
		options = append(options, quorate.Since(since))
	}
	if step["ttl_ms"] != nil {
		options = append(options, quorate.TTL(millis(step, "ttl_ms", 0)))
	}
	return options
}

func (p *player) do(ctx context.Context, step object) (object, error) {
	client := p.client
	if table, ok := step["table"].(string); ok {
		client = client.Table(table)
	}
	key := text(step, "key")
	if long, ok := step["key"].(object); ok {
		key = strings.Repeat("x", int(long["repeat"].(float64)))
	}
	switch step["do"] {
	case "client":
		made, err := p.newClient(step)
		if err != nil {
			return nil, err
		}
		return object{}, made.Close()
	case "sleep":
		time.Sleep(millis(step, "ms", 0))
		return object{}, nil
	case "fault":
		p.harness.fault(step)
		return object{}, nil
	case "calls":
		return p.harness.ask(object{"ask": "calls"}), nil
	case "get":
		var options []quorate.GetOption
		if flag(step, "from_one_replica") {
			options = append(options, quorate.FromOneReplica())
		}
		if version, ok := step["at_least"].(string); ok {
			options = append(options, quorate.AtLeast(version))
		}
		found, err := client.Get(ctx, key, options...)
		return object{"found": foundOut(found)}, err
	case "state":
		state, err := client.State(ctx, key)
		if err != nil {
			return nil, err
		}
		return object{"found": foundOut(state.Found), "version": state.Version}, nil
	case "set":
		done, err := client.Set(ctx, key, valueIn(step["value"].(object)), writeOptions(step)...)
		return writtenOut(done), err
	case "delete":
		done, err := client.Delete(ctx, key, writeOptions(step)...)
		return writtenOut(done), err
	case "add":
		delta, err := strconv.ParseInt(text(step, "delta"), 10, 64)
		if err != nil {
			return nil, err
		}
		added, err := client.Add(ctx, key, delta, writeOptions(step)...)
		return object{"value": strconv.FormatInt(added.Value, 10), "version": added.Version}, err
	case "batch_get":
		var keys []string
		for _, key := range step["keys"].([]any) {
			keys = append(keys, key.(string))
		}
		results, err := client.BatchGet(ctx, keys...)
		out := []any{}
		for _, result := range results {
			if result.Failure != nil {
				out = append(out, object{"failure": object{"reason": result.Failure.Reason}})
			} else {
				out = append(out, object{"found": foundOut(result.Found)})
			}
		}
		return object{"results": out}, err
	case "batch_write":
		var writes []quorate.Write
		for _, write := range step["writes"].([]any) {
			write := write.(object)
			if write["do"] == "set" {
				writes = append(writes, client.ToSet(text(write, "key"), valueIn(write["value"].(object)), writeOptions(write)...))
			} else {
				writes = append(writes, client.ToDelete(text(write, "key"), writeOptions(write)...))
			}
		}
		results, err := client.BatchWrite(ctx, writes...)
		out := []any{}
		for _, result := range results {
			if result.Err != nil {
				out = append(out, object{"error": errorOut(result.Err)})
			} else {
				out = append(out, writtenOut(result.Acknowledged))
			}
		}
		return object{"results": out}, err
	case "update":
		done, err := client.Update(ctx, key, func(old *quorate.Versioned) (*quorate.Value, error) {
			appended, ok := step["append"].(string)
			if !ok {
				return nil, nil
			}
			if old != nil {
				appended = old.Value.String() + appended
			}
			value := quorate.Text(appended)
			return &value, nil
		})
		return object{"written": done != nil}, err
	case "list":
		return p.list(ctx, client, step), nil
	case "watch":
		return p.watch(ctx, client, step), nil
	case "table_create":
		var options []quorate.TableOption
		if step["default_ttl_ms"] != nil {
			options = append(options, quorate.DefaultTTL(millis(step, "default_ttl_ms", 0)))
		}
		if bytes, ok := step["value_bytes_max"].(float64); ok {
			options = append(options, quorate.ValueBytesMax(uint64(bytes)))
		}
		if bytes, ok := step["quota_bytes"].(float64); ok {
			options = append(options, quorate.QuotaBytes(uint64(bytes)))
		}
		if flag(step, "if_missing") {
			options = append(options, quorate.IfMissing())
		}
		created, err := client.Tables().Create(ctx, text(step, "name"), options...)
		return object{"is_new": created.IsNew, "table": tableOut(&created.Table)}, err
	case "table_drop":
		return object{}, client.Tables().Drop(ctx, text(step, "name"))
	case "table_get":
		table, err := client.Tables().Get(ctx, text(step, "name"))
		return object{"table": tableOut(table)}, err
	case "table_list":
		tables, err := client.Tables().List(ctx)
		names := []string{}
		for _, table := range tables {
			names = append(names, table.Name)
		}
		return object{"names": names}, err
	case "cluster_info":
		info, err := client.ClusterInfo(ctx)
		if err != nil {
			return nil, err
		}
		ids := []string{}
		for _, node := range info.Nodes {
			ids = append(ids, node.ID)
		}
		return object{"seed": info.Seed, "replica_count": info.ReplicaCount, "ids": ids}, nil
	case "health":
		health, err := client.Health(ctx)
		if err != nil {
			return nil, err
		}
		return object{"status": health.Status, "serves": health.Serves}, nil
	case "cancel":
		return p.cancel(step), nil
	case "count":
		return p.count(ctx, step), nil
	case "update_count":
		return p.updateCount(ctx, step), nil
	case "write_read":
		return p.writeRead(ctx, step), nil
	case "copy":
		return p.copy(ctx, step), nil
	case "fill":
		return object{}, p.fill(ctx, step)
	case "list_under_fault":
		return p.listUnderFault(ctx, step)
	default:
		return nil, fmt.Errorf("no step %v", step["do"])
	}
}

func (p *player) list(ctx context.Context, client *quorate.Client, step object) object {
	options := []quorate.ListOption{quorate.StartAfter(text(step, "start_after"))}
	if limit, ok := step["limit"].(float64); ok {
		options = append(options, quorate.Limit(uint64(limit)))
	}
	if flag(step, "values") {
		options = append(options, quorate.ListValues())
	}
	keys, values := []string{}, []any{}
	out := object{"error": nil}
	for listed, err := range client.List(ctx, text(step, "prefix"), options...) {
		if err != nil {
			out["error"] = errorOut(err)
			break
		}
		keys = append(keys, listed.Key)
		values = append(values, valueOut(listed.Value))
	}
	out["keys"], out["values"] = keys, values
	return out
}

func (p *player) watch(ctx context.Context, client *quorate.Client, step object) object {
	cursor, err := base64.StdEncoding.DecodeString(text(step, "cursor"))
	if err != nil {
		panic(err)
	}
	if given := text(step, "cursor_text"); given != "" {
		cursor = []byte(given)
	}
	options := []quorate.WatchOption{quorate.Cursor(cursor)}
	if flag(step, "values") {
		options = append(options, quorate.WatchValues())
	}
	if flag(step, "with_list") {
		options = append(options, quorate.WithList())
	}
	watching := client.Watch(text(step, "prefix"), options...)
	if key, ok := step["key"].(string); ok {
		watching = client.WatchKey(key, options...)
	}
	events, take := []object{}, int(step["take"].(float64))
	out := object{"error": nil}
	if take > 0 {
		for event, err := range watching.Events(ctx) {
			if err != nil {
				out["error"] = errorOut(err)
				break
			}
			if events = append(events, eventOut(event)); len(events) == take {
				break
			}
		}
	}
	if flag(step, "sorted") {
		kind := func(event object) string {
			for _, kind := range []string{"deleted", "ready", "reset", "set"} {
				if event[kind] != nil {
					return kind
				}
			}
			return ""
		}
		slices.SortFunc(events, func(a, b object) int { return strings.Compare(kind(a), kind(b)) })
	}
	out["events"], out["cursor"] = events, base64.StdEncoding.EncodeToString(watching.Cursor())
	out["cursor_text"] = string(watching.Cursor())
	return out
}

// cancel cancels what waits. Nothing of it may be left.
func (p *player) cancel(step object) object {
	out := object{}
	before := runtime.NumGoroutine()
	how := func(err error) string {
		if errors.Is(err, context.Canceled) {
			return "cancelled"
		}
		return fmt.Sprint("ended with ", err)
	}
	for name, work := range map[string]func(context.Context) error{
		"get": func(ctx context.Context) error { _, err := p.client.Get(ctx, "k"); return err },
		"set": func(ctx context.Context) error {
			_, err := p.client.Set(ctx, "k", quorate.Text("v"), quorate.IfVersion("AAxx"))
			if !errors.Is(err, quorate.ErrOutcomeUnknown) {
				return fmt.Errorf("a write that was cancelled ended with %v", err)
			}
			return err
		},
		"list": func(ctx context.Context) error {
			for _, err := range p.client.List(ctx, "") {
				return err
			}
			return nil
		},
		"watch": func(ctx context.Context) error {
			for _, err := range p.client.Watch("").Events(ctx) {
				return err
			}
			return nil
		},
	} {
		ctx, cancel := context.WithCancel(context.Background())
		timer := time.AfterFunc(millis(step, "after_ms", 0), cancel)
		out[name] = how(work(ctx))
		timer.Stop()
		cancel()
	}
	if err := p.client.Close(); err != nil {
		out["close"] = err.Error()
	}
	// What was told to end does so in its next turn.
	left := 0
	for range 100 {
		if left = max(runtime.NumGoroutine()-before, 0); left == 0 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	out["left"] = left
	return out
}
