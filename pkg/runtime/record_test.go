package runtime

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"box/internal/errdefs"
	"box/internal/strictjson"
)

// fullRecord has a value of its own in every field.
func fullRecord() *record {
	r := new(record)
	fillRecord(reflect.ValueOf(r).Elem(), 0)
	return r
}

// fillRecord sets everything below v and returns how many values it has set so far.
func fillRecord(v reflect.Value, n int) int {
	n++
	switch v.Kind() {
	case reflect.String:
		v.SetString("text " + strconv.Itoa(n) + " \\ \" \t\x1f \u00e9\u2028 𝄞 <&>\u007f")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		n = fillRecord(v.Index(1), fillRecord(v.Index(0), n))
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range 3 {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			n = fillRecord(value, fillRecord(key, n))
			v.SetMapIndex(key, value)
		}
	case reflect.Struct:
		if t, ok := v.Addr().Interface().(*time.Time); ok {
			*t = time.Date(2026, 2, 3, 4, 5, 6, 7000+n, time.UTC)
			return n
		}
		for _, f := range v.Fields() {
			n = fillRecord(f, n)
		}
	default:
		if v.CanUint() {
			v.SetUint(1<<32 + uint64(n))
		} else {
			v.SetInt(-int64(n))
		}
	}
	return n
}

// mustAppend writes a record.
func mustAppend(t *testing.T, r *record) []byte {
	t.Helper()
	text, err := strictjson.Append(nil, r, recordMembers)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// untyped is a JSON text without any type.
func untyped(t *testing.T, text []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return v
}

// TestRecordAgreesWithItsTags holds what is read and written against encoding/json, for
// a record with all fields, those added later included, and for an empty one.
func TestRecordAgreesWithItsTags(t *testing.T) {
	for name, r := range map[string]*record{"full": fullRecord(), "empty": {}} {
		text := mustAppend(t, r)
		tagged, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var theirs, ours record
		if err := json.Unmarshal(text, &theirs); err != nil || !reflect.DeepEqual(&theirs, r) {
			t.Errorf("%s: encoding/json reads what we write otherwise: %v\n%s", name, err, cmp.Diff(*r, theirs))
		}
		if err := strictjson.Read("r", tagged, &ours, recordMembers); err != nil || !reflect.DeepEqual(&ours, r) {
			t.Errorf("%s: we read what encoding/json writes otherwise: %v\n%s", name, err, cmp.Diff(*r, ours))
		}
		if name == "full" {
			if diff := cmp.Diff(untyped(t, tagged), untyped(t, text)); diff != "" {
				t.Errorf("not the keys of the tags: %s", diff)
			}
		}
	}
}

// TestStateAgreesWithItsTags does the same for what hooks and engines get: even an empty
// one has all members but the annotations.
func TestStateAgreesWithItsTags(t *testing.T) {
	for _, st := range []*State{&fullRecord().State, {}} {
		text, err := st.JSON()
		if err != nil {
			t.Fatal(err)
		}
		tagged, err := json.Marshal(st)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(untyped(t, tagged), untyped(t, text)); diff != "" {
			t.Error(diff)
		}
	}
}

// TestBytesThatAreNotUTF8 become U+FFFD, as with encoding/json. They come from paths.
func TestBytesThatAreNotUTF8(t *testing.T) {
	for _, s := range []string{"/a\xffb", "\xc3", "\xed\xa0\x80", "\uFFFD", "a\xf0\x9d\x84"} {
		var want, have record
		r := &record{State: State{Bundle: s, Annotations: map[string]string{s: s}}}
		tagged, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(tagged, &want); err != nil {
			t.Fatal(err)
		}
		if err := strictjson.Read("r", mustAppend(t, r), &have, recordMembers); err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%q: %v\n%s", s, err, cmp.Diff(want, have))
		}
	}
}

// loaded writes a state file and loads it.
func loaded(t *testing.T, text string) (*container, error) {
	t.Helper()
	r := &Runtime{Root: t.TempDir()}
	if err := os.Mkdir(r.dir("c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.dir("c"), recordFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return r.load("c")
}

// TestRecordOfAnotherVersion reads a file as the version before has written it, and one
// with keys that only a later version knows.
func TestRecordOfAnotherVersion(t *testing.T) {
	want := record{
		State: State{
			OCIVersion: "1.3.0", ID: "c", Pid: 24423, Status: Running, Bundle: "/b", Rootfs: "/b/rootfs",
			Created: time.Date(2026, 11, 21, 16, 5, 0, 123456789, time.UTC), Annotations: map[string]string{"a": "<b>"}, Owner: "root",
		},
		StartTime: 2457733, BootID: "f0", Command: "sh", Join: 0x6c020000, SharedPid: true,
	}
	want.Cgroup.Path = "/box-c"
	const before = `{"ociVersion":"1.3.0","id":"c","pid":24423,"status":"running","bundle":"/b","rootfs":"/b/rootfs","created":"2026-11-21T16:05:00.123456789Z","annotations":{"a":"\u003cb\u003e"},"owner":"root","startTime":2457733,"bootID":"f0","cgroup":{"path":"/box-c"},"command":"sh","join":1812070400,"filterFlags":0,"hooks":false,"sharedPid":true`
	for _, text := range []string{before + "}\n", before + `,"new":[{"a":1.5}],"resctrl":{"new":null}}`} {
		c, err := loaded(t, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, c.record); diff != "" {
			t.Error(diff)
		}
	}
}

// TestDamagedRecord is corrupt, and not invalid, which is the class of ids that are none of
// ours.
func TestDamagedRecord(t *testing.T) {
	for _, text := range []string{"", "[]", `{"id":"c"`, `{"pid":"1"}`, `{"created":"yesterday"}`, `{"created":""}`, `{"pid":1,"pid":2}`, "{\"id\":\"\xff\"}"} {
		if _, err := loaded(t, text); !errors.Is(err, errdefs.ErrCorrupt) || errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzRecord reads state files as a crash, or somebody else, may have left them:
// they are refused or understood, as by encoding/json, and what is understood is written
// back the same.
func FuzzRecord(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"id":"c","pid":-1,"status":"running","startTime":18446744073709551615}`,
		`{"ociVersion":"1.3.0","id":"c","pid":7,"created":"2026-01-02T03:04:05Z","annotations":{"a":"b"},"cgroup":{}}`,
		`{"created":"9999-12-31T23:59:59.5+23:59","cgroup":{"path":"\u0001","legacy":{"":"\ud834\udd1e"}},"pipes":["","pipe:[1]"]}`,
	} {
		f.Add([]byte(s))
	}
	dir := f.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "c"), 0o700); err != nil {
		f.Fatal(err)
	}
	r := &Runtime{Root: dir}
	f.Fuzz(func(t *testing.T, data []byte) {
		if err := os.WriteFile(filepath.Join(dir, "c", recordFile), data, 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := r.load("c")
		if err != nil {
			return
		}
		once := mustAppend(t, &c.record)
		var again, theirs record
		if err := strictjson.Read("r", once, &again, recordMembers); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, once)
		}
		if twice := mustAppend(t, &again); !bytes.Equal(once, twice) {
			t.Errorf("a record changes when it is read:\n%s\n%s", once, twice)
		}
		if err := json.Unmarshal(once, &theirs); err != nil || !bytes.Equal(once, mustAppend(t, &theirs)) {
			t.Errorf("encoding/json reads it otherwise: %v\n%s", err, once)
		}
		_, _ = r.State("c")
	})
}
