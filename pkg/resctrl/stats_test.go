package resctrl

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"box/internal/errdefs"
)

// put writes files below a directory.
func put(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What a host of two sockets says of caches and bandwidth.
var dividing = map[string]string{
	"info/L3/cbm_mask": "7ff\n", "info/L3/min_cbm_bits": "1\n", "info/L3/num_closids": "16\n",
	"info/MB/bandwidth_gran": "10\n", "info/MB/delay_linear": "1\n", "info/MB/min_bandwidth": "10\n", "info/MB/num_closids": "8\n",
	"schemata":      "  SMBA:0=2048\n    MB:0=100;1=100\n    L3:0=7ff;1=7ff\n",
	"gold/schemata": "  SMBA:0=2048\n    MB:0=20;1=70\n    L3:0=7f0;1=1f\n",
}

// The keys and values are runc's (its types.IntelRdt).
const divided = `"l3_cache_info":{"cbm_mask":"7ff","min_cbm_bits":1,"num_closids":16},` +
	`"l3_cache_schema_root":"L3:0=7ff;1=7ff","l3_cache_schema":"L3:0=7f0;1=1f",` +
	`"mem_bw_info":{"bandwidth_gran":10,"delay_linear":1,"min_bandwidth":10,"num_closids":8},` +
	`"mem_bw_schema_root":"MB:0=100;1=100","mem_bw_schema":"MB:0=20;1=70",` +
	`"schemata":["SMBA:0=2048","MB:0=20;1=70","L3:0=7f0;1=1f"]`

func TestStats(t *testing.T) {
	const features = "info/L3_MON/mon_features"
	for name, c := range map[string]struct {
		files map[string]string
		own   bool // a monitoring group
		want  string
	}{
		"nothing is measured": {dividing, false, `{` + divided + `}`},
		"measured for all in the group": {map[string]string{
			features:                                "llc_occupancy\nmbm_total_bytes\nmbm_total_bytes_config\nmbm_local_bytes\n",
			"gold/mon_data/mon_L3_00/llc_occupancy": "10\n", "gold/mon_data/mon_L3_00/mbm_total_bytes": "20\n", "gold/mon_data/mon_L3_00/mbm_local_bytes": "30\n",
			"gold/mon_data/mon_L3_01/llc_occupancy": "0\n", "gold/mon_data/mon_L3_01/mbm_total_bytes": "Unavailable\n", "gold/mon_data/mon_L3_01/mbm_local_bytes": "50\n",
			"gold/mon_data/mon_PERF_PKG_00/core_energy": "1.5\n",
		}, false, `{` + divided + `,"mbm_stats":[{"mbm_total_bytes":20,"mbm_local_bytes":30},{"mbm_total_bytes":null,"mbm_local_bytes":50}],` +
			`"cmt_stats":[{"llc_occupancy":10},{"llc_occupancy":0}]}`},
		"measured by itself": {map[string]string{
			features: "mbm_local_bytes\n", "gold/mon_groups/c1/mon_data/mon_L3_00/mbm_local_bytes": "60\n",
		}, true, `{` + divided + `,"mbm_stats":[{"mbm_total_bytes":0,"mbm_local_bytes":60}]}`},
	} {
		root := t.TempDir()
		put(t, root, dividing)
		put(t, root, c.files)
		g := Group{Path: root + "/gold"}
		if c.own {
			g.Monitor = root + "/gold/mon_groups/c1"
		}
		s, err := g.Stats(root)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got, err := json.Marshal(s); err != nil || string(got) != c.want {
			t.Errorf("%s:\nhave %s, %v\nwant %s", name, got, err, c.want)
		}
	}
}

// A host that divides nothing says so by what is not there; so does one container.
func TestStatsOfLittle(t *testing.T) {
	root := fakeRoot(t, "gold")
	s, err := (&Group{Path: root + "/gold"}).Stats(root)
	if err != nil {
		t.Error(err)
	}
	if got, _ := json.Marshal(s); string(got) != `{"schemata":["L3:0=07f0;1=1f","MB:0=100;1=100"]}` {
		t.Errorf("have %s", got)
	}
	if got, _ := json.Marshal(Stats{}); string(got) != "{}" {
		t.Errorf("no group: %s", got)
	}
}

func TestStatsThatCannotBeRead(t *testing.T) {
	for name, text := range map[string]string{"info/L3/min_cbm_bits": "many\n", "info/L3_MON/mon_features": "llc_occupancy\n"} {
		root := t.TempDir()
		put(t, root, dividing)
		put(t, root, map[string]string{name: text})
		if _, err := (&Group{Path: root + "/gold"}).Stats(root); err == nil || !strings.Contains(err.Error(), root) {
			t.Errorf("%s: %v", name, err)
		}
	}
	g := Group{Path: "/sys/fs/resctrl/gold"}
	if _, err := g.Stats(""); !errors.Is(err, errdefs.ErrUnavailable) || !strings.Contains(err.Error(), "no resctrl is mounted") {
		t.Errorf("not mounted any more: %v", err)
	}
}
