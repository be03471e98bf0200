package quorate

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	"quorate/internal/api"
)

type message = proto.Message

// Tables are the tables of a cluster: [Client.Tables].
type Tables struct {
	client *Client
}

// TableOption changes the creation of a table.
type TableOption func(*tableOptions)

type tableOptions struct {
	ttl           *time.Duration
	valueBytesMax *uint64
	quotaBytes    *uint64
	ifMissing     bool
}

// DefaultTTL gives values a time to live that are written without one: 1 ms to 3,650 days.
func DefaultTTL(ttl time.Duration) TableOption {
	return func(o *tableOptions) { o.ttl = &ttl }
}

// ValueBytesMax refuses larger values: 1 byte to 60 MiB.
func ValueBytesMax(bytes uint64) TableOption {
	return func(o *tableOptions) { o.valueBytesMax = &bytes }
}

// QuotaBytes refuses writes once all keys and values have about so many bytes together. Nodes learn of it within seconds.
func QuotaBytes(bytes uint64) TableOption {
	return func(o *tableOptions) { o.quotaBytes = &bytes }
}

// IfMissing takes a table that is there already, if it has the settings that are asked for. Without settings, any will do.
func IfMissing() TableOption {
	return func(o *tableOptions) { o.ifMissing = true }
}

// Create creates a table, empty. Of many calls for one name at once, one creates it. It fails as [Client.Set], and with
// [ErrTableExists].
func (t Tables) Create(ctx context.Context, name string, opts ...TableOption) (TableCreated, error) {
	var options tableOptions
	for _, option := range opts {
		option(&options)
	}
	_, problem := createdTableName(name)
	settings := &api.TableSettings{}
	if bytes := options.valueBytesMax; bytes != nil {
		if *bytes < 1 || *bytes > valueBytesMax {
			problem = first(problem, invalid("a greatest value of %d bytes is not accepted: 1 to %d are", *bytes, valueBytesMax))
		}
		settings.ValueBytesMax = *bytes
	}
	if bytes := options.quotaBytes; bytes != nil {
		if *bytes == 0 {
			problem = first(problem, invalid("a quota of 0 bytes is not accepted: give at least 1, or none for no bound"))
		}
		settings.QuotaBytes = *bytes
	}
	ttl, bad := duration(options.ttl)
	if problem = first(problem, bad); problem != nil {
		return TableCreated{}, problem
	}
	settings.DefaultTtl = ttl
	request := &api.TableCreateRequest{Name: name, IfMissing: options.ifMissing}
	if options.ttl != nil || options.valueBytesMax != nil || options.quotaBytes != nil {
		request.Settings = settings
	}
	ctx, cancel, op := begin(ctx, t.client.deadline)
	defer cancel()
	pauses := newPauses()
	for {
		answer := new(api.TableCreateResponse)
		node, err := t.client.pool.write(ctx, op, "", methodTableCreate, request, answer)
		switch {
		case err == nil:
			table, bad := tableOf(answer.GetTable())
			if bad != nil {
				return TableCreated{}, &Error{Kind: OutcomeUnknown, Node: node.failure(codes.Unknown, bad.Error())}
			}
			return TableCreated{table, answer.GetCreated()}, nil
		case err.Kind == OutcomeUnknown && options.ifMissing && pauses.wait(ctx, op.deadline):
			// A table that an earlier try has created will do.
		default:
			return TableCreated{}, err
		}
	}
}

// Drop drops a table, with all of its keys. Once it is done they are gone for everybody, and a later table of the same name is
// empty.
//
// [ErrOutcomeUnknown] says that the table may be dropped in part: its keys cannot be used any more. Drop it again, unless somebody
// may have created another table of its name meanwhile. Drop fails as [Client.Set], and with [ErrNoSuchTable].
func (t Tables) Drop(ctx context.Context, name string) error {
	if _, problem := createdTableName(name); problem != nil {
		return problem
	}
	ctx, cancel, op := begin(ctx, t.client.deadline)
	defer cancel()
	_, err := t.client.pool.write(ctx, op, "", methodTableDrop, &api.TableDropRequest{Name: name}, new(api.TableDropResponse))
	return orNil(err)
}

// Get reads a table's settings. It returns nil if there is no table of this name. It fails as [Client.Get].
func (t Tables) Get(ctx context.Context, name string) (*TableInfo, error) {
	if _, problem := tableName(name); problem != nil {
		return nil, problem
	}
	ctx, cancel, op := begin(ctx, t.client.deadline)
	defer cancel()
	table, err := read(ctx, t.client.pool, op, "", func(ctx context.Context, n *node) (*TableInfo, *verdict) {
		answer := new(api.TableGetResponse)
		if failed := n.ask(ctx, methodTableGet, &api.TableGetRequest{Name: name}, answer); failed != nil {
			return nil, failed
		}
		table, failed := checked[TableInfo](n)(tableOf(answer.GetTable()))
		return &table, failed
	})
	if err != nil && err.Kind == NoSuchTable {
		return nil, nil
	}
	return table, orNil(err)
}

// List lists the tables in the order of their names, default included. It fails as [Client.Get].
func (t Tables) List(ctx context.Context) ([]TableInfo, error) {
	ctx, cancel, op := begin(ctx, t.client.deadline)
	defer cancel()
	pauses := newPauses()
	var tables []TableInfo
	for {
		failed := t.read(ctx, op, &tables)
		switch {
		case failed == nil:
			return tables, nil
		case failed.final != nil:
			return nil, failed.final
		case !pauses.wait(ctx, op.deadline):
			return nil, &Error{Kind: Unavailable, Node: failed.failure, TriedFor: time.Since(op.began), cause: ctx.Err()}
		}
	}
}

// read reads the tables after those that are known from one node, until it fails.
func (t Tables) read(ctx context.Context, op operation, tables *[]TableInfo) *verdict {
	request := &api.TableListRequest{}
	if known := *tables; len(known) > 0 {
		request.StartAfter = known[len(known)-1].Name
	}
	stream, failed := t.client.open(ctx, methodTableList, request)
	if failed != nil {
		return failed
	}
	defer stream.cancel()
	for {
		page := new(api.TableListResponse)
		failed := stream.next(page, time.Until(op.deadline))
		for _, table := range page.GetTables() {
			if failed == nil {
				var info TableInfo
				info, failed = checked[TableInfo](stream.node)(tableOf(table))
				*tables = append(*tables, info)
			}
		}
		if failed != nil {
			t.client.pool.avoid(stream.node)
			return failed
		}
		if page.Next == nil {
			return nil
		}
	}
}
