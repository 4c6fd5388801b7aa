package strictjson

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"box/internal/errdefs"
)

// thing has a field of each kind that can be read.
type thing struct {
	Name  string            `json:"name"`
	On    bool              `json:"on"`
	Small int16             `json:"small"`
	Big   uint64            `json:"big"`
	List  []string          `json:"list"`
	Map   map[string]string `json:"map"`
	Inner []thing           `json:"inner"`
}

func readThing(d *Decoder, v *thing) {
	var seen uint64
	for k, ok := d.Begin(); ok; k, ok = d.Next() {
	again:
		switch k {
		case "name":
			d.Once(&seen, 0)
			String(d, &v.Name)
		case "on":
			d.Once(&seen, 1)
			Bool(d, &v.On)
		case "small":
			d.Once(&seen, 2)
			Int(d, &v.Small)
		case "big":
			d.Once(&seen, 3)
			Uint(d, &v.Big)
		case "list":
			d.Once(&seen, 4)
			List(d, &v.List, String)
		case "map":
			d.Once(&seen, 5)
			Map(d, &v.Map, String)
		case "inner":
			d.Once(&seen, 6)
			List(d, &v.Inner, readThing)
		default:
			if k, ok = d.Unknown(k, "name", "on", "small", "big", "list", "map", "inner"); ok {
				goto again
			}
		}
	}
}

// texts are right, and together use all that JSON has.
var texts = []string{
	"{}",
	" \r\n\t{ \"name\" : \"\\u0041\\/\\\"\\\\\\b\\f\\n\\r\\t\\ud834\\udd1e é\" } \n",
	`{"on":true,"small":-32768,"big":18446744073709551615,"list":["a",null,""],"map":{"":"x","y":null}}`,
	`{"name":null,"on":null,"small":null,"big":null,"list":null,"map":null,"inner":null}`,
	`{"list":[],"map":{},"inner":[{},{"inner":[{"on":false}]},null]}`,
	`{"new":[1,-0,2.5e-3,1E+9,{"a":{"b":[[]]}},true,false,null,"\u00e9"],"on":true}`,
}

func TestReadsAsEncodingJSON(t *testing.T) {
	for _, text := range texts {
		var want, have thing
		if err := json.Unmarshal([]byte(text), &want); err != nil {
			t.Fatal(err)
		}
		if err := Decode("t", []byte(text), &have, readThing); err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%s\nhave %+v, %v\nwant %+v", text, have, err, want)
		}
	}
}

// TestMistakes shows the messages; more of them are in pkg/spec.
func TestMistakes(t *testing.T) {
	for text, want := range map[string]string{
		``:                                    `t:1:1: want an object, have the end of the file`,
		`[]`:                                  `t:1:1: want an object, have an array`,
		"{}\n 1":                              `t:2:2: '1' after the end of the configuration`,
		`{"inner":[{},{"list":["a",]}]`:       `t:1:27: inner[1].list[1]: want a string, have ']'`,
		`{"name":"a","name":"a"}`:             `t:1:20: name: set twice`,
		`{"map":{"a":"","a":""}}`:             `t:1:20: map.a: set twice`,
		`{"name":"a","NAME":"a"}`:             `t:1:20: NAME: set twice`,
		`{"small":32768}`:                     `t:1:10: small: 32768 is out of range`,
		`{"big":-1}`:                          `t:1:8: big: -1 is out of range`,
		`{"big":1e3}`:                         `t:1:8: big: want an integer, have 1e3`,
		"{\"name\":\"\xc3\"}":                 `t:1:10: not valid UTF-8`,
		"{\"new\":\"\uFFFD\xff\"}":            `t:1:12: not valid UTF-8`,
		`{"name":"\u0000"}`:                   `t:1:16: name: NUL in a string`,
		`{"name":"\udd1e\ud834"}`:             `t:1:22: name: half of a surrogate pair in a string`,
		`{"new":` + strings.Repeat("[", 1000): `t:1:209: new: nested more than 200 deep`,
	} {
		err := Decode("t", []byte(text), new(thing), readThing)
		if err == nil || err.Error() != want || !errors.Is(err, errdefs.ErrInvalid) {
			t.Errorf("%.60s\nhave %v\nwant %s", text, err, want)
		}
	}
}

// TestFail shows that a mistake of the caller's has a place too, and that the first one
// counts.
func TestFail(t *testing.T) {
	err := Decode("t", []byte(`{"a":{"b":[1]}}`), new(thing), func(d *Decoder, _ *thing) {
		d.Begin()
		d.Fail(errdefs.ErrUnsupported, "no %s", "a")
		d.Fail(errdefs.ErrInvalid, "b")
	})
	if err == nil || err.Error() != "t:1:6: a: no a" || !errors.Is(err, errdefs.ErrUnsupported) {
		t.Error(err)
	}
}

// FuzzRead checks that what is accepted means the same to encoding/json.
func FuzzRead(f *testing.F) {
	for _, text := range texts {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var want, have thing
		if Decode("t", data, &have, readThing) != nil {
			return
		}
		if err := json.Unmarshal(data, &want); err != nil || !reflect.DeepEqual(have, want) {
			t.Errorf("%v\nhave %+v\nwant %+v", err, have, want)
		}
	})
}
