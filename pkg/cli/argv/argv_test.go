package argv

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

type values struct {
	Detach, TTY, Stdin bool
	Name               string
	Publish, Env       []string
	Tail               int
	Wait               *time.Duration
}

func seconds(n int) *time.Duration {
	d := time.Duration(n) * time.Second
	return &d
}

func newSet(v *values) *Set {
	s := &Set{}
	s.Bool(&v.Detach, "detach", 'd', "run in the background")
	s.Bool(&v.TTY, "tty", 't', "allocate a terminal")
	s.Bool(&v.Stdin, "interactive", 'i', "keep stdin open")
	s.String(&v.Name, "name", 0, "name", "name of the container")
	s.List(&v.Publish, "publish", 'p', "port", "publish a port")
	s.List(&v.Env, "env", 'e', "variable", "set a variable")
	s.Int(&v.Tail, "tail", 'n', "lines", "lines to show")
	s.Seconds(&v.Wait, "time", 0, "seconds to wait")
	s.Refuse("cpu-shares,c", "gpus")
	return s
}

func TestParse(t *testing.T) {
	tests := []struct {
		args         string
		interspersed bool
		want         values
		operands     []string
	}{
		{args: "-it image sh", want: values{TTY: true, Stdin: true}, operands: []string{"image", "sh"}},
		{args: "-dp 8080:80 image", want: values{Detach: true, Publish: []string{"8080:80"}}, operands: []string{"image"}},
		{args: "-p80 -p=81 --publish 82 --publish=83", want: values{Publish: []string{"80", "81", "82", "83"}}},
		{args: "-eA=b --env C=d=e,f", want: values{Env: []string{"A=b", "C=d=e,f"}}},
		{args: "--detach=false -t=true -i=0", want: values{TTY: true}},
		{args: "image -d --name x", want: values{}, operands: []string{"image", "-d", "--name", "x"}},
		{args: "a -d b --name x", interspersed: true, want: values{Detach: true, Name: "x"}, operands: []string{"a", "b"}},
		{args: "-d -- -t --name", want: values{Detach: true}, operands: []string{"-t", "--name"}},
		{args: "a -- -t", interspersed: true, operands: []string{"a", "-t"}},
		{args: "- x", want: values{}, operands: []string{"-", "x"}},
		{args: "-n 5 --time 2m", want: values{Tail: 5, Wait: seconds(120)}},
		{args: "--time 3", want: values{Wait: seconds(3)}},
		{args: "--name --detach", want: values{Name: "--detach"}},
		{args: "--name=", want: values{}},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			var got values
			operands, err := newSet(&got).Parse(strings.Fields(tt.args), tt.interspersed)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("values (-want +got):\n%s", d)
			}
			if d := cmp.Diff(tt.operands, operands); d != "" {
				t.Errorf("operands (-want +got):\n%s", d)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ args, want string }{
		{"--nmae x", "unknown flag --nmae"},
		{"--colour", "unknown flag --colour"},
		{"-dx", "unknown flag -x in -dx"},
		{"--name", "flag --name needs a value: --name name"},
		{"-dp", "flag -p needs a value: -p port"},
		{"--detach=maybe", `flag --detach: "maybe" is neither true nor false`},
		{"-d=maybe", `flag -d: "maybe" is neither true nor false`},
		{"-n five", `flag -n: "five" is not a whole number`},
		{"--time soon", `flag --time: "soon" is not a number of seconds`},
		{"--gpus all", "flag --gpus is not supported yet"},
		{"-c 5", "flag --cpu-shares is not supported yet"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			_, err := newSet(&values{}).Parse(strings.Fields(tt.args), true)
			if err == nil || err.Error() != tt.want {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"-h", "--help", "-dh", "x --help"} {
		if _, err := newSet(&values{}).Parse(strings.Fields(args), true); !errors.Is(err, ErrHelp) {
			t.Errorf("%s: got %v, want ErrHelp", args, err)
		}
	}
	operands, err := newSet(&values{}).Parse([]string{"image", "--help"}, false)
	if err != nil || len(operands) != 2 {
		t.Errorf("--help behind the image belongs to the container: %v, %v", operands, err)
	}
}

func TestRefusedFlagsAreNotListed(t *testing.T) {
	for _, f := range newSet(&values{}).Flags() {
		if f.Name == "gpus" {
			t.Error("a refused flag is offered")
		}
	}
}

func TestNearest(t *testing.T) {
	commands := []string{"run", "rm", "rmi", "ps", "pull", "push", "build", "images", "inspect"}
	tests := map[string]string{
		"rnu": "run", "biuld": "build", "image": "images", "pul": "pull",
		"isnpect": "inspect", "frobnicate": "", "x": "", "runn": "run",
	}
	for word, want := range tests {
		if got := Nearest(word, commands); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-dp\x0080:80\x00image")
	f.Add("--name=x\x00--\x00-t")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, "\x00")
		operands, err := newSet(&values{}).Parse(args, len(line)%2 == 0)
		if err == nil && len(operands) > len(args) {
			t.Errorf("%q: more operands than words: %q", args, operands)
		}
	})
}
