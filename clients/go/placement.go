package quorate

import (
	"cmp"
	"context"
	"encoding/binary"
	"maps"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"quorate/internal/api"
)

// slotCount is the number of parts of the key space.
const slotCount = 1 << 16

// site is a node as the placement sees it.
type site struct {
	id string
	// weight is in hundredths.
	weight uint64
	// zone is empty for a node that shares none with another.
	zone string
}

// placement says which nodes hold a key: rendezvous hashing of 65,536 slots with MurmurHash3, by weight and zone. The formulas are
// in docs/protocol.md.
type placement struct {
	seed          uint32
	replicaCount  int
	sites         []site
	seeds         []uint32
	weightsDiffer bool
	// replicas has the ids of the nodes that hold each slot, best first, of the slots that were asked for.
	replicas [slotCount]atomic.Pointer[[]string]
}

func newPlacement(seed uint32, replicaCount int, sites []site) *placement {
	sites = slices.SortedFunc(slices.Values(sites), func(a, b site) int { return cmp.Compare(a.id, b.id) })
	p := &placement{seed: seed, replicaCount: replicaCount, sites: sites, seeds: make([]uint32, len(sites))}
	for i, one := range sites {
		p.seeds[i] = murmur32([]byte(one.id), seed)
		p.weightsDiffer = p.weightsDiffer || one.weight != sites[0].weight
	}
	return p
}

// isOf reports whether this is the placement of these parameters.
func (p *placement) isOf(other *placement) bool {
	return p.seed == other.seed && p.replicaCount == other.replicaCount && slices.Equal(p.sites, other.sites)
}

func (p *placement) slot(key string) uint16 {
	return uint16(murmur64([]byte(key), p.seed) >> 48)
}

// holders returns the ids of the nodes that hold a key, best first.
func (p *placement) holders(key string) []string { return p.holdersOf(p.slot(key)) }

func (p *placement) holdersOf(slot uint16) []string {
	if known := p.replicas[slot].Load(); known != nil {
		return *known
	}
	type candidate struct {
		score, cost, weight uint64
		index, rank         int
	}
	name := [2]byte{byte(slot >> 8), byte(slot)}
	all := make([]candidate, len(p.sites))
	for i, seed := range p.seeds {
		score := murmur64(name[:], seed)
		all[i] = candidate{score: score, cost: ^score, weight: 1, index: i}
		if p.weightsDiffer {
			all[i].cost, all[i].weight = cost(score), p.sites[i].weight
		}
	}
	slices.SortFunc(all, func(a, b candidate) int {
		// By cost for each weight, then by score, then by id: two ids may share a seed and thus every score.
		return cmp.Or(cmp.Compare(a.cost*b.weight, b.cost*a.weight), cmp.Compare(b.score, a.score), cmp.Compare(b.index, a.index))
	})
	// The first ones of all zones come before the second ones.
	seen := map[string]int{}
	for i := range all {
		if zone := p.sites[all[i].index].zone; zone != "" {
			all[i].rank = seen[zone]
			seen[zone]++
		}
	}
	slices.SortStableFunc(all, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	replicas := make([]string, 0, p.replicaCount)
	for _, one := range all[:p.replicaCount] {
		replicas = append(replicas, p.sites[one.index].id)
	}
	p.replicas[slot].Store(&replicas)
	return replicas
}

// cost is -log2 of a score as a number between 0 and 1, in parts of 2^32. Each squaring of a number between 1 and 2 tells one more
// bit of its logarithm: whether the square has reached 2. Nodes compute the same in whole numbers.
func cost(score uint64) uint64 {
	odd := score | 1
	zeros := bits.LeadingZeros64(odd)
	number, fraction := odd<<zeros, uint64(0)
	for range 32 {
		high, low := bits.Mul64(number, number)
		bit := high >> 63
		number = high
		if bit == 0 {
			number = high<<1 | low>>63
		}
		fraction = fraction<<1 | bit
	}
	return uint64(zeros+1)<<32 - fraction
}

// learnEvery is how often the router asks anew: members may change, and a table may be another one of its name.
const learnEvery = 10 * time.Second

// router knows which of the client's nodes hold a key.
type router struct {
	known atomic.Pointer[routes]

	mu sync.Mutex
	// tables has the ids of the tables that were used, and nil for one that is not known yet.
	tables map[string]*uint32
}

type routes struct {
	placement *placement
	ids       map[*node]string
}

func newRouter() *router { return &router{tables: map[string]*uint32{}} }

// holds reports whether a node holds a key, as it is stored. Where that is not known yet, any node is as good.
func (r *router) holds(n *node, key string) bool {
	known := r.known.Load()
	if known == nil || key == "" {
		return true
	}
	return slices.Contains(known.placement.holders(key), known.ids[n])
}

// stored returns a key as it is stored: behind the id of its table, if that is not the default one. It is empty where the id is
// not known yet.
func (c *Client) stored(key string) string {
	router := c.pool.router
	if router == nil || c.table == "" || c.table == "default" {
		return key
	}
	router.mu.Lock()
	defer router.mu.Unlock()
	id, isAsked := router.tables[c.table]
	if !isAsked {
		router.tables[c.table] = nil
		c.pool.spawn(func(ctx context.Context) { router.learnTable(ctx, c.pool, c.table) })
	}
	if id == nil {
		return ""
	}
	return string(binary.BigEndian.AppendUint32([]byte{0xFF}, *id)) + key
}

// learnTable asks for the id of a table.
func (r *router) learnTable(ctx context.Context, p *pool, name string) {
	ctx, cancel, op := begin(ctx, deadlineDefault)
	defer cancel()
	id, _ := read(ctx, p, op, "", func(ctx context.Context, n *node) (*uint32, *verdict) {
		answer := new(api.TableGetResponse)
		failed := n.ask(ctx, methodTableGet, &api.TableGetRequest{Name: name}, answer)
		id := answer.GetTable().GetId()
		return &id, failed
	})
	r.mu.Lock()
	defer r.mu.Unlock()
	if id == nil {
		// It is asked for again by the next operation.
		delete(r.tables, name)
		return
	}
	r.tables[name] = id
}

// learn asks the nodes who they are and what the cluster is, until the client is closed.
func (r *router) learn(ctx context.Context, p *pool) {
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, probeInterval) {
		wait := jittered(pause)
		if r.learnNodes(ctx, p) {
			wait = jittered(learnEvery)
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		r.mu.Lock()
		names := slices.Collect(maps.Keys(r.tables))
		r.mu.Unlock()
		for _, name := range names {
			r.learnTable(ctx, p, name)
		}
	}
}

// learnNodes asks each node, and reports whether all have answered.
func (r *router) learnNodes(ctx context.Context, p *pool) bool {
	var last routes
	if known := r.known.Load(); known != nil {
		last = *known
	}
	var found *placement
	ids := make(map[*node]string, len(p.nodes))
	maps.Copy(ids, last.ids)
	answers := 0
	for _, n := range p.nodes {
		answer := new(api.ClusterInfoResponse)
		limited, cancel := context.WithTimeout(ctx, probeInterval)
		failed := n.ask(limited, methodInfo, &api.ClusterInfoRequest{}, answer)
		cancel()
		replicaCount := int(answer.GetReplicationLevel())
		if failed != nil || replicaCount < 1 || replicaCount > len(answer.GetStorageNodes()) {
			continue
		}
		answers++
		ids[n] = answer.GetNodeId()
		isMember := false
		var sites []site
		for _, other := range answer.GetStorageNodes() {
			// 0 stands for a weight of 1.
			sites = append(sites, site{other.GetId(), cmp.Or(uint64(other.GetWeightHundredths()), 100), other.GetZone()})
			isMember = isMember || other.GetId() == answer.GetNodeId()
		}
		// What a node knows that was removed is old.
		if found == nil && isMember {
			found = newPlacement(answer.GetSeed(), replicaCount, sites)
		}
	}
	if found == nil || (last.placement != nil && last.placement.isOf(found)) {
		found = last.placement
	}
	if found != nil {
		r.known.Store(&routes{found, ids})
	}
	return answers == len(p.nodes)
}

// murmur32 is MurmurHash3_x86_32.
func murmur32(data []byte, seed uint32) uint32 {
	const c1, c2 = 0xCC9E2D51, 0x1B873593
	hash := seed
	blocks := len(data) / 4
	for i := range blocks {
		k := binary.LittleEndian.Uint32(data[4*i:]) * c1
		hash ^= bits.RotateLeft32(k, 15) * c2
		hash = bits.RotateLeft32(hash, 13)*5 + 0xE6546B64
	}
	var k uint32
	for i, tail := 0, data[4*blocks:]; i < len(tail); i++ {
		k |= uint32(tail[i]) << (8 * i)
	}
	hash ^= bits.RotateLeft32(k*c1, 15) * c2
	hash ^= uint32(len(data))
	hash ^= hash >> 16
	hash *= 0x85EBCA6B
	hash ^= hash >> 13
	hash *= 0xC2B2AE35
	return hash ^ hash>>16
}

// murmur64 is the first 64 bits of MurmurHash3_x64_128.
func murmur64(data []byte, seed uint32) uint64 {
	const c1, c2 = 0x87C37B91114253D5, 0x4CF5AD432745937F
	h1, h2 := uint64(seed), uint64(seed)
	blocks := len(data) / 16
	for i := range blocks {
		k1 := binary.LittleEndian.Uint64(data[16*i:])
		k2 := binary.LittleEndian.Uint64(data[16*i+8:])
		h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
		h1 = (bits.RotateLeft64(h1, 27)+h2)*5 + 0x52DCE729
		h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
		h2 = (bits.RotateLeft64(h2, 31)+h1)*5 + 0x38495AB5
	}
	var k1, k2 uint64
	for i, tail := 0, data[16*blocks:]; i < len(tail); i++ {
		if i < 8 {
			k1 |= uint64(tail[i]) << (8 * i)
		} else {
			k2 |= uint64(tail[i]) << (8 * (i - 8))
		}
	}
	h2 ^= bits.RotateLeft64(k2*c2, 33) * c1
	h1 ^= bits.RotateLeft64(k1*c1, 31) * c2
	h1 ^= uint64(len(data))
	h2 ^= uint64(len(data))
	h1 += h2
	h2 += h1
	return avalanche(h1) + avalanche(h2)
}

func avalanche(k uint64) uint64 {
	k ^= k >> 33
	k *= 0xFF51AFD7ED558CCD
	k ^= k >> 33
	k *= 0xC4CEB9FE1A85EC53
	return k ^ k>>33
}
