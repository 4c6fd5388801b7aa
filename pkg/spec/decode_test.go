package spec

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// full is a configuration in which every field that is decoded has a value.
func full(t testing.TB) []byte {
	t.Helper()
	var s specs.Spec
	fill(reflect.ValueOf(&s).Elem(), 0)
	s.Solaris, s.Windows, s.VM, s.ZOS, s.FreeBSD = nil, nil, nil, nil, nil
	data, err := json.MarshalIndent(s, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// fill gives everything below v a value, another one for each.
func fill(v reflect.Value, n int) int {
	n++
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), n)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		return fill(v.Index(1), fill(v.Index(0), n))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		n = fill(value, n)
		v.SetMapIndex(reflect.ValueOf("a \"key\"\u2028é"), value)
	case reflect.Struct:
		for _, f := range v.Fields() {
			n = fill(f, n)
		}
	case reflect.String:
		v.SetString("text \\ \" \n\t\u00e9\u2028 𝄞 <&>" + strings.Repeat("x", n%7))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Interface:
	default:
		if v.CanUint() {
			v.SetUint(uint64(n))
		} else {
			v.SetInt(-int64(n))
		}
	}
	return n
}

// TestDecodesAsEncodingJSON compares with the library where it is right.
func TestDecodesAsEncodingJSON(t *testing.T) {
	for name, text := range map[string]string{
		"full":     string(full(t)),
		"empty":    "{}",
		"nulls":    `{"process":null,"mounts":null,"linux":{"seccomp":null,"sysctl":null,"resources":{"memory":{"limit":null}}},"solaris":null}`,
		"no items": `{"mounts":[],"annotations":{},"process":{"args":[ ],"user":{},"cwd":""}}`,
		"unknown":  `{"new":{"a":[1,2.5e-3,{"b":[]}],"c":"\u00e9\ud834\udd1e"},"hostname":"h","more":[true,false,null,-0]}`,
		"spaces":   " \r\n\t{ \"hostname\" : \"h\" , \"root\" : { \"path\" : \"/\\/\\b\\f\\u0041\" } } \n",
		"case":     `{"Hostname":"h","LINUX":{"resources":{"CPU":{"Cpus":"0"},"hugepageLimits":[{"pagesize":"2MB","limit":1}],"Unified":{"A":"b"}}}}`,
		"sections": `{"linux":{"resources":{"cpu":{"shares":5,"cpus":"1","quota":7},"CPU":{"Cpus":"0","quota":null}}},"Linux":{"cgroupsPath":"/x"}}`,
		"numbers":  `{"linux":{"resources":{"memory":{"limit":-9223372036854775808,"swappiness":18446744073709551615},"blockIO":{"weight":65535}}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			var want specs.Spec
			if err := json.Unmarshal([]byte(text), &want); err != nil {
				t.Fatal(err)
			}
			have, err := Decode("config.json", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(&want, have); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestDecodeErrors shows the messages: file, line, column, field.
func TestDecodeErrors(t *testing.T) {
	for text, want := range map[string]string{
		"":                 `c:1:1: want an object, have the end of the file`,
		"null":             `c:1:1: want an object, have 'n'`,
		"[]":               `c:1:1: want an object, have an array`,
		"{":                `c:1:2: want a key, have the end of the file`,
		"{}x":              `c:1:3: 'x' after the end of the configuration`,
		"{\"hostname\"}":   `c:1:12: want ':' behind key "hostname", have '}'`,
		"{\"hostname\":1}": `c:1:13: hostname: want a string, have a number`,
		"{\n \"linux\": {\n  \"namespaces\": [{\"type\": \"pid\"}, {\"type\": 3}]\n }\n}": `c:3:44: linux.namespaces[1].type: want a string, have a number`,
		`{"hostname":"a" "root":{}}`:                                       `c:1:17: want ',' or '}', have a string`,
		`{"process":{"args":["a" "b"]}}`:                                   `c:1:25: process.args[0]: want ',' or ']', have a string`,
		`{"process":{"args":{}}}`:                                          `c:1:20: process.args: want an array, have an object`,
		`{"process":{"terminal":"yes"}}`:                                   `c:1:24: process.terminal: want a boolean, have a string`,
		`{"process":{"user":{"uid":-1}}}`:                                  `c:1:27: process.user.uid: -1 is out of range`,
		`{"process":{"user":{"uid":4294967296}}}`:                          `c:1:27: process.user.uid: 4294967296 is out of range`,
		`{"process":{"user":{"uid":1.0}}}`:                                 `c:1:27: process.user.uid: want an integer, have 1.0`,
		`{"process":{"user":{"uid":01}}}`:                                  `c:1:27: process.user.uid: want a value, have a number`,
		`{"process":{"user":{"uid":"0"}}}`:                                 `c:1:27: process.user.uid: want a number, have a string`,
		`{"linux":{"resources":{"memory":{"limit":9223372036854775808}}}}`: `c:1:42: linux.resources.memory.limit: 9223372036854775808 is out of range`,
		`{"linux":{"resources":{"blockIO":{"weight":65536}}}}`:             `c:1:44: linux.resources.blockIO.weight: 65536 is out of range`,
		`{"Hostname":1}`:                                                   `c:1:13: Hostname: want a string, have a number`,
		`{"hostname":"a","HOSTNAME":"b"}`:                                  `c:1:28: HOSTNAME: set twice`,
		`{"root":{},"Root":{},"root":{}}`:                                  `c:1:29: root: set twice`,
		`{"linux":{"devices":[]},"Linux":{"devices":[]}}`:                  `c:1:44: Linux.devices: set twice`,
		`{"linux":{"sysctl":{}},"Linux":{"sysctl":{}}}`:                    `c:1:42: Linux.sysctl: set twice`,
		`{"hostname":"a","hostname":"b"}`:                                  `c:1:28: hostname: set twice`,
		`{"annotations":{"a":"1","a":"2"}}`:                                `c:1:29: annotations.a: set twice`,
		`{"windows":{}}`:                                                   `c:1:12: windows: not supported: box-runtime runs Linux containers`,
		`{"hostname":"a` + "\n" + `"}`:                                     `c:1:15: hostname: control character 0x0a in a string`,
		`{"hostname":"a\u0000b"}`:                                          `c:1:21: hostname: NUL in a string`,
		`{"hostname":"\ud800x"}`:                                           `c:1:20: hostname: half of a surrogate pair in a string`,
		`{"hostname":"\x"}`:                                                `c:1:14: hostname: unknown escape in a string`,
		`{"hostname":"a`:                                                   `c:1:15: hostname: string without an end`,
		"{\"hostname\":\"\xff\"}":                                          `c:1:14: not valid UTF-8`,
		`{"x":` + strings.Repeat("[", 500):                                 `c:1:207: x: nested more than 200 deep`,
		`{"x":` + strings.Repeat(`{"y":`, 300) + `1`:                       `c:1:1011: x` + strings.Repeat(".y", 11) + `…: nested more than 200 deep`,
		`{"x":tru}`: `c:1:6: x: want a value, have a boolean`,
		`{"x":-}`:   `c:1:6: x: want a value, have a number`,
		`{"x":1e}`:  `c:1:6: x: want a value, have a number`,
	} {
		_, err := Decode("c", []byte(text))
		class := errdefs.ErrInvalid
		if strings.Contains(want, "not supported") {
			class = errdefs.ErrUnsupported
		}
		if err == nil || err.Error() != want || !errors.Is(err, class) {
			t.Errorf("%.80s\nhave %v\nwant %s", text, err, want)
		}
	}
}

// FuzzDecode checks that whatever is accepted means the same to encoding/json, and
// that validating it does not panic, nor looking into what is not accepted.
func FuzzDecode(f *testing.F) {
	f.Add(full(f))
	for _, s := range []string{"{}", `{"hostname":"\ud834\udd1e"}`, `{"linux":{"sysctl":{"a":"b"}}}`, `{"x":[1,{}]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		_ = Foresee(data)
		have, err := Decode("c", data)
		if err != nil {
			return
		}
		var want specs.Spec
		if err := json.Unmarshal(data, &want); err != nil {
			t.Fatalf("accepted, but: %v", err)
		}
		if !reflect.DeepEqual(&want, have) {
			t.Error(cmp.Diff(&want, have))
		}
		_ = Validate(have)
	})
}

// TestGenerated checks that decoders.go is what the generator makes of the
// specification's types today.
func TestGenerated(t *testing.T) {
	generator, err := filepath.Abs("mkdecode.go")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("decoders.go")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	binary := filepath.Join(dir, "mkdecode")
	if out, err := exec.Command("go", "build", "-o", binary, generator).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	cmd := exec.Command(binary)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	have, err := os.ReadFile(filepath.Join(dir, "decoders.go"))
	if err != nil {
		t.Fatal(err)
	}
	if string(have) != string(want) {
		t.Error("decoders.go is out of date: run go generate ./pkg/spec")
	}
}

func BenchmarkDecode(b *testing.B) {
	data := full(b)
	for b.Loop() {
		if _, err := Decode("c", data); err != nil {
			b.Fatal(err)
		}
	}
}
