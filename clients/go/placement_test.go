package quorate

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
)

// even has nodes of weight 1 and no zone.
func even(ids ...string) []site {
	var sites []site
	for _, id := range ids {
		sites = append(sites, site{id: id, weight: 100})
	}
	return sites
}

// TestPublishedPlacementsHold has the placements that the nodes' own tests pin.
func TestPublishedPlacementsHold(t *testing.T) {
	var nine []string
	for n := 1; n <= 9; n++ {
		nine = append(nine, strconv.Itoa(n))
	}
	weights := []site{{"1", 100, ""}, {"2", 100, ""}, {"3", 200, ""}, {"4", 50, ""}, {"5", 400, ""}}
	zones := []site{{"1", 100, "a"}, {"2", 100, "a"}, {"3", 100, "a"}, {"4", 100, "b"}, {"5", 100, "b"}}
	both := []site{{"node-a", 150, "x"}, {"node-b", 25, "x"}, {"node-c", 100, "y"}, {"node-d", 300, "z"}, {"node-e", 100, "z"}}
	for _, pinned := range []struct {
		seed     uint32
		sites    []site
		key      string
		slot     uint16
		replicas []string
	}{
		{0, even(nine[:5]...), "a", 34133, []string{"3", "4", "5"}},
		{0, even(nine[:5]...), "b", 31384, []string{"3", "2", "4"}},
		{42, even("node-d", "node-a", "node-b", "node-c"), "雪片", 54523, []string{"node-d", "node-a", "node-c"}},
		{1<<32 - 1, even(nine...), "00000000-0000-0000-0000-000000000000", 61768, []string{"6", "1", "7"}},
		{0, weights, "a", 34133, []string{"3", "5", "4"}},
		{0, weights, "b", 31384, []string{"3", "5", "2"}},
		{0, zones, "a", 34133, []string{"3", "4", "5"}},
		{0, zones, "b", 31384, []string{"3", "4", "2"}},
		{42, both, "雪片", 54523, []string{"node-d", "node-a", "node-c"}},
		{42, both, "雪片", 54523, []string{"node-d", "node-a", "node-c", "node-e", "node-b"}},
	} {
		placement := newPlacement(pinned.seed, len(pinned.replicas), pinned.sites)
		if slot := placement.slot(pinned.key); slot != pinned.slot {
			t.Errorf("%q is in slot %d, not %d", pinned.key, slot, pinned.slot)
		}
		if replicas := placement.holders(pinned.key); !slices.Equal(replicas, pinned.replicas) {
			t.Errorf("%q is on %v, not %v", pinned.key, replicas, pinned.replicas)
		}
	}
}

// TestPublishedCostsHold has logarithms that the nodes' own tests pin.
func TestPublishedCostsHold(t *testing.T) {
	for score, expected := range map[uint64]uint64{
		0:                   274_877_906_944,
		1:                   274_877_906_944,
		2:                   268_070_544_839,
		0x123456789ABCDEF0:  16_380_065_491,
		0x7FFFFFFFFFFFFFFF:  4_294_967_297,
		0x8000000000000000:  4_294_967_296,
		0xC000000000000000:  1_782_572_487,
		0xFFFFFEFFFFFFFFFF:  370,
		0xFFFF_FFFFFFFFFFFF: 1,
	} {
		if cost := cost(score); cost != expected {
			t.Errorf("%#x costs %d, not %d", score, cost, expected)
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
	placement := newPlacement(0, 2, even(one, other, "third"))
	for slot := range slotCount {
		replicas := placement.holdersOf(uint16(slot))
		if replicas[0] == replicas[1] {
			t.Fatalf("slot %d is on %v", slot, replicas)
		}
	}
}

// TestPlacementIsThatOfTheNodes asks the program of QUORATE_PROGRAM where keys are.
func TestPlacementIsThatOfTheNodes(t *testing.T) {
	program := os.Getenv("QUORATE_PROGRAM")
	if program == "" {
		t.Skip("QUORATE_PROGRAM names no program")
	}
	clusters := map[string][]site{
		"even":    even("1", "2", "3", "4", "5", "6", "7"),
		"weights": {{"1", 100, ""}, {"2", 250, ""}, {"3", 1, ""}, {"4", 400, ""}, {"5", 100, ""}},
		"zones":   {{"1", 100, "a"}, {"2", 100, "a"}, {"3", 100, "b"}, {"4", 100, "b"}, {"5", 100, "c"}},
		"both":    {{"1", 150, "a"}, {"2", 100, "a"}, {"3", 1_000_000, "b"}, {"4", 33, "b"}, {"5", 100, "c"}, {"6", 100, "c"}},
		"pairs":   {{"n-1", 100, "a"}, {"n-10", 300, "a"}, {"n-2", 100, "b"}, {"n-3", 100, "b"}},
	}
	for name, sites := range clusters {
		for _, replicaCount := range []int{1, 2, 3, len(sites)} {
			seed := uint32(len(name)) * 0x9E3779B9
			text := fmt.Sprintf("cluster:\n  seed: %d\n  replica_count: %d\n  nodes:\n", seed, replicaCount)
			for i, one := range sites {
				text += fmt.Sprintf("    %q: { remote_address: \"127.0.0.1:%d\", weight: %d.%02d", one.id, i+1, one.weight/100, one.weight%100)
				if one.zone != "" {
					text += ", zone: " + one.zone
				}
				text += " }\n"
			}
			file := filepath.Join(t.TempDir(), "cluster.yml")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments := []string{"locate", "--cluster", file, "--json", "--"}
			var keys []string
			for n := range 1000 {
				keys = append(keys, "k❄"+strconv.Itoa(n))
			}
			answer, err := exec.Command(program, append(arguments, keys...)...).Output()
			if err != nil {
				t.Fatalf("%s: %v: %s", name, err, text)
			}
			var located []struct {
				Key      string
				Slot     uint16
				Replicas []string
			}
			if err := json.Unmarshal(answer, &located); err != nil || len(located) != len(keys) {
				t.Fatalf("%s: %d keys, %v", name, len(located), err)
			}
			placement := newPlacement(seed, replicaCount, sites)
			for _, one := range located {
				if slot, holders := placement.slot(one.Key), placement.holders(one.Key); slot != one.Slot || !slices.Equal(holders, one.Replicas) {
					t.Fatalf("%s, %d replicas: %q is in slot %d on %v, not %d on %v", name, replicaCount, one.Key, one.Slot, one.Replicas, slot, holders)
				}
			}
		}
	}
}
