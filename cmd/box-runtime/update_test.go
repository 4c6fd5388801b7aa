package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func TestParseSize(t *testing.T) {
	for s, want := range map[string]int64{
		"-1": -1, "0": 0, "52428800": 52428800, "50M": 50 << 20, "1g": 1 << 30, "1.5k": 1536, "64kb": 64 << 10,
		"2 GiB": 2 << 30, "7b": 7, "1t": 1 << 40, "1Pi": 1 << 50, "9223372036854774783": 9223372036854774783,
	} {
		if got, err := parseSize(s); err != nil || got != want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", s, got, err, want)
		}
	}
	for _, s := range []string{"", "-2", "M", "1x", "1kk", "0x10", "1e3", "1_000", "+1", "9223372036854775808", "1 0", "NaN", "inf", "8192p", "1  m"} {
		if got, err := parseSize(s); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", s, got)
		}
	}
}

// Each flag sets its own field and no other.
func TestLimitFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                         `{}`,
		"--memory 50M":             `{"memory":{"limit":52428800}}`,
		"--memory -1":              `{"memory":{"limit":-1}}`,
		"--memory-swap=-1":         `{"memory":{"swap":-1}}`,
		"--memory-reservation 1k":  `{"memory":{"reservation":1024}}`,
		"--kernel-memory 1":        `{"memory":{"kernel":1}}`,
		"--kernel-memory-tcp 1":    `{"memory":{"kernelTCP":1}}`,
		"--cpu-period 900000":      `{"cpu":{"period":900000}}`,
		"--cpu-quota -1":           `{"cpu":{"quota":-1}}`,
		"--cpu-burst 0":            `{"cpu":{"burst":0}}`,
		"--cpu-share 200":          `{"cpu":{"shares":200}}`,
		"--cpu-rt-period 1":        `{"cpu":{"realtimePeriod":1}}`,
		"--cpu-rt-runtime 1":       `{"cpu":{"realtimeRuntime":1}}`,
		"--cpu-idle 1":             `{"cpu":{"idle":1}}`,
		"--cpuset-cpus 0-1":        `{"cpu":{"cpus":"0-1"}}`,
		"--cpuset-mems 0":          `{"cpu":{"mems":"0"}}`,
		"--blkio-weight 100":       `{"blockIO":{"weight":100}}`,
		"--pids-limit 0":           `{"pids":{"limit":0}}`,
		"--pids-limit -1":          `{"pids":{"limit":-1}}`,
		"--memory 1 --cpu-quota 2": `{"memory":{"limit":1},"cpu":{"quota":2}}`,
	} {
		r := &specs.LinuxResources{
			Memory: &specs.LinuxMemory{}, CPU: &specs.LinuxCPU{}, BlockIO: &specs.LinuxBlockIO{}, Pids: &specs.LinuxPids{},
		}
		if _, err := parse("update", limitFlags(r), strings.Fields(args), anywhere); err != nil {
			t.Errorf("%s: %v", args, err)
		}
		got, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		empty := strings.NewReplacer(`"memory":{},`, "", `"cpu":{},`, "", `"pids":{},`, "", `"blockIO":{}`, "", `"memory":{}`, "", `"cpu":{}`, "")
		if text := strings.ReplaceAll(empty.Replace(string(got)), ",}", "}"); text != want {
			t.Errorf("%s: %s, want %s", args, text, want)
		}
	}
}

func TestUpdateRefusals(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/bad.json", []byte(`{"memory":{"limit":"much"}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]string{
		"--cpu-quota x id":       `invalid value "x" for flag -cpu-quota`,
		"--blkio-weight 70000 x": `invalid value "70000" for flag -blkio-weight`,
		"--l3-cache-schema L3 x": "l3 cache schema is not enabled",
		"--mem-bw-schema MB x":   "memory bandwidth schema is not enabled",
		"-r missing.json id":     "no such file or directory",
		"-r bad.json id":         "limit",
		"ghost":                  "container does not exist: ghost",
		"":                       `"update" requires exactly 1 argument(s)`,
	} {
		_, errs, code := call(t, dir, append([]string{"--root", dir, "update"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("update %s: exit %d, %q, want %q", args, code, errs, want)
		}
	}
}

func TestEventsRefusals(t *testing.T) {
	for args, want := range map[string]string{
		"--interval 0s id": "duration interval must be greater than 0",
		"--interval x id":  `invalid value "x" for flag -interval`,
		"--stats ghost":    "container does not exist: ghost",
		"ghost":            "container does not exist: ghost",
	} {
		_, errs, code := call(t, ".", append([]string{"--root", t.TempDir(), "events"}, strings.Fields(args)...)...)
		if code != 1 || !strings.Contains(errs, want) {
			t.Errorf("events %s: exit %d, %q, want %q", args, code, errs, want)
		}
	}
}
