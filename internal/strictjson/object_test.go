package strictjson

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

// note has a member of each kind.
type note struct {
	Text  string            `json:"text"`
	On    bool              `json:"on"`
	Size  int64             `json:"size"`
	Count uintptr           `json:"count"`
	When  time.Time         `json:"when"`
	List  []string          `json:"list,omitempty"`
	Map   map[string]string `json:"map,omitempty"`
	Inner struct {
		Text string `json:"text"`
	} `json:"inner"`
}

func noteMembers(o *Object, v *note) {
	Text(o, "text", &v.Text)
	Flag(o, "on", &v.On)
	Number(o, "size", &v.Size)
	Count(o, "count", &v.Count)
	Textual(o, "when", &v.When)
	Strings(o, "list", &v.List)
	StringMap(o, "map", &v.Map)
	Inner(o, "inner", &v.Inner, func(o *Object, v *struct {
		Text string `json:"text"`
	},
	) {
		Text(o, "text", &v.Text)
	})
}

// notes are texts in the form that Append writes.
var notes = []string{
	`{"text":"","on":false,"size":0,"count":0,"when":"0001-01-01T00:00:00Z","inner":{"text":""}}`,
	`{"text":"\"\\\u0001é","on":true,"size":-9223372036854775808,"count":18446744073709551615,"when":"2026-01-02T03:04:05.000006Z","list":["","b"],"map":{"":"x","a":"","b":"y"},"inner":{"text":"i"}}`,
}

func TestObjectWritesAndReadsTheSame(t *testing.T) {
	for _, text := range notes {
		var n, want note
		if err := Read("t", []byte(text), &n, noteMembers); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal([]byte(text), &want); err != nil || !reflect.DeepEqual(n, want) {
			t.Errorf("have %+v, want %+v, %v", n, want, err)
		}
		if have, err := Append([]byte("x"), &n, noteMembers); err != nil || string(have) != "x"+text {
			t.Errorf("%v\nhave %s\nwant %s", err, have, text)
		}
	}
}

// TestObjectReads shows what reading lets pass and what it does not.
func TestObjectReads(t *testing.T) {
	for text, want := range map[string]string{
		`{"new":{"text":[]},"text":null,"when":null,"list":null,"map":null,"inner":null}`: "",
		`{"inner":{"text":"a","new":1},"list":[],"TEXT":1}`:                               "",
		`{"text":"a","on":true,"text":"a"}`:                                               `t:1:30: text: set twice`,
		`{"inner":{"text":"a","text":"a"}}`:                                               `t:1:29: inner.text: set twice`,
		`{"when":7}`:                                                                      `t:1:9: when: want a string, have a number`,
		`{"when":"noon"}`:                                                                 `t:1:15: when: parsing time "noon" as "2006-01-02T15:04:05Z07:00": cannot parse "noon" as "2006"`,
		`{"count":-1}`:                                                                    `t:1:10: count: -1 is out of range`,
	} {
		err := Read("t", []byte(text), new(note), noteMembers)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s\nhave %v\nwant %s", text, err, want)
		}
	}
}

// TestAppendFails when a member has no text.
func TestAppendFails(t *testing.T) {
	n := note{When: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}
	if text, err := Append(nil, &n, noteMembers); err == nil || !strings.Contains(err.Error(), "year") {
		t.Errorf("%s, %v", text, err)
	}
}

// FuzzAppendString checks that encoding/json reads what was written, with U+FFFD for each
// byte that is not UTF-8.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "a\"\\/\x00\x1f\x7f", "\u2028é𝄞", "\xff\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString(nil, s)
		var have string
		if err := json.Unmarshal(text, &have); err != nil || have != string([]rune(s)) {
			t.Errorf("%q: %s reads as %q, %v", s, text, have, err)
		}
	})
}
