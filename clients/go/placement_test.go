package quorate

import (
	"slices"
	"strconv"
	"testing"
)

// TestPublishedPlacementsHold has the placements that the nodes' own tests pin.
func TestPublishedPlacementsHold(t *testing.T) {
	var nine []string
	for n := 1; n <= 9; n++ {
		nine = append(nine, strconv.Itoa(n))
	}
	for _, pinned := range []struct {
		seed     uint32
		ids      []string
		key      string
		slot     uint16
		replicas []string
	}{
		{0, nine[:5], "a", 34133, []string{"3", "4", "5"}},
		{0, nine[:5], "b", 31384, []string{"3", "2", "4"}},
		{42, []string{"node-d", "node-a", "node-b", "node-c"}, "雪片", 54523, []string{"node-d", "node-a", "node-c"}},
		{1<<32 - 1, nine, "00000000-0000-0000-0000-000000000000", 61768, []string{"6", "1", "7"}},
	} {
		placement := newPlacement(pinned.seed, 3, pinned.ids)
		if slot := placement.slot(pinned.key); slot != pinned.slot {
			t.Errorf("%q is in slot %d, not %d", pinned.key, slot, pinned.slot)
		}
		if replicas := placement.holders(pinned.key); !slices.Equal(replicas, pinned.replicas) {
			t.Errorf("%q is on %v, not %v", pinned.key, replicas, pinned.replicas)
		}
	}
}

// TestPublishedMurmurVectorsHold has values of the reference implementation.
func TestPublishedMurmurVectorsHold(t *testing.T) {
	for _, vector := range []struct {
		data string
		seed uint32
		hash uint32
	}{
		{"", 0, 0},
		{"", 1, 0x514E28B7},
		{"\x21\x43\x65\x87", 0, 0xF55B516B},
		{"\x21\x43\x65\x87", 0x5082EDEE, 0x2362F9DE},
		{"Hello, world!", 0x9747B28C, 0x24884CBA},
		{"The quick brown fox jumps over the lazy dog", 0x9747B28C, 0x2FA826CD},
	} {
		if hash := murmur32([]byte(vector.data), vector.seed); hash != vector.hash {
			t.Errorf("%q has %#x, not %#x", vector.data, hash, vector.hash)
		}
	}
	for data, expected := range map[string]uint64{
		"":                          0,
		"hello":                     0xCBD8A7B341BD9B02,
		"hello, world":              0x342FAC623A5EBC8E,
		"19 Jan 2038 at 3:14:07 AM": 0xB89E5988B737AFFC,
		"The quick brown fox jumps over the lazy dog.": 0xCD99481F9EE902C9,
	} {
		if hash := murmur64([]byte(data), 0); hash != expected {
			t.Errorf("%q has %#x, not %#x", data, hash, expected)
		}
	}
}

func TestNodesThatShareAHashAreStillDistinctReplicas(t *testing.T) {
	seen := map[uint32]string{}
	var one, other string
	for n := 0; one == ""; n++ {
		id := "n" + strconv.Itoa(n)
		if earlier, ok := seen[murmur32([]byte(id), 0)]; ok {
			one, other = earlier, id
		}
		seen[murmur32([]byte(id), 0)] = id
	}
	for slot, replicas := range newPlacement(0, 2, []string{one, other, "third"}).replicas {
		if replicas[0] == replicas[1] {
			t.Fatalf("slot %d is on %v", slot, replicas)
		}
	}
}
