package argv

import (
	"flag"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

func flags() []cli.Flag {
	return []cli.Flag{
		&cli.BoolFlag{Name: "detach", Aliases: []string{"d"}},
		&cli.BoolFlag{Name: "tty", Aliases: []string{"t"}},
		&cli.BoolFlag{Name: "interactive", Aliases: []string{"i"}},
		&cli.StringFlag{Name: "name"},
		&cli.StringFlag{Name: "network", Aliases: []string{"net"}},
		&cli.StringSliceFlag{Name: "publish", Aliases: []string{"p"}},
		&cli.StringSliceFlag{Name: "env", Aliases: []string{"e"}},
		Refused("cpu-shares,c"), Refused("gpus"),
	}
}

func TestNormalise(t *testing.T) {
	tests := []struct {
		args         string
		interspersed bool
		words        string
		operands     []string
	}{
		{args: "-it image sh", words: "--interactive=true --tty=true", operands: []string{"image", "sh"}},
		{args: "-dp 8080:80 image", words: "--detach=true --publish=8080:80", operands: []string{"image"}},
		{args: "-p80 -p=81 --publish 82 --publish=83", words: "--publish=80 --publish=81 --publish=82 --publish=83"},
		{args: "-eA=b --env C=d=e,f -e=D", words: "--env=A=b --env=C=d=e,f --env=D"},
		{args: "--detach=false -t=true -i=0 -dt=F", words: "--detach=false --tty=true --interactive=0 --detach=true --tty=F"},
		{args: "image -d --name x", operands: []string{"image", "-d", "--name", "x"}},
		{args: "a -d b --name x", interspersed: true, words: "--detach=true --name=x", operands: []string{"a", "b"}},
		{args: "-d -- -t --name", words: "--detach=true", operands: []string{"-t", "--name"}},
		{args: "a -- -t", interspersed: true, operands: []string{"a", "-t"}},
		{args: "- x", operands: []string{"-", "x"}},
		{args: "-d - -t", interspersed: true, words: "--detach=true --tty=true", operands: []string{"-"}},
		{args: "--name --detach -p -d", words: "--name=--detach --publish=-d"},
		{args: "--name= x", words: "--name=", operands: []string{"x"}},
		{args: "--net none --network=host", words: "--network=none --network=host"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			words, operands, err := Normalise(flags(), strings.Fields(tt.args), tt.interspersed)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(words, " "); got != tt.words {
				t.Errorf("flags %s, want %s", got, tt.words)
			}
			if d := cmp.Diff(tt.operands, operands); d != "" {
				t.Errorf("operands (-want +got):\n%s", d)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct{ args, want string }{
		{"--nmae x", "unknown flag --nmae"},
		{"--colour", "unknown flag --colour"},
		{"--d", "unknown flag --d"},
		{"--=x", "unknown flag --"},
		{"-dx", "unknown flag -x in -dx"},
		{"-name x", "unknown flag -n in -name"},
		{"--name", "flag --name needs a value"},
		{"-dp", "flag -p needs a value"},
		{"--detach=maybe", `flag --detach: "maybe" is neither true nor false`},
		{"-d=maybe", `flag -d: "maybe" is neither true nor false`},
		{"--gpus all", "flag --gpus is not supported yet"},
		{"-c 5", "flag --cpu-shares is not supported yet"},
		{"-dc5", "flag --cpu-shares is not supported yet"},
	}
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			words, operands, err := Normalise(flags(), strings.Fields(tt.args), true)
			if err == nil || err.Error() != tt.want || words != nil || operands != nil {
				t.Errorf("got %q, %q, %v; want %s", words, operands, err, tt.want)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	for _, args := range []string{"-h", "--help", "-dh", "x --help", "--name x -h y"} {
		words, operands, err := Normalise(flags(), strings.Fields(args), true)
		if err != nil || !slices.Equal(words, []string{"--help"}) || operands != nil {
			t.Errorf("%s: got %q, %q, %v; want help and nothing else", args, words, operands, err)
		}
	}
	words, operands, err := Normalise(flags(), []string{"image", "--help"}, false)
	if err != nil || len(words) != 0 || len(operands) != 2 {
		t.Errorf("--help behind the image belongs to the container: %q, %q, %v", words, operands, err)
	}
	own := append(flags(), &cli.StringFlag{Name: "hostname", Aliases: []string{"h"}})
	if words, _, err = Normalise(own, []string{"-h", "web"}, false); err != nil || !slices.Equal(words, []string{"--hostname=web"}) {
		t.Errorf("-h of a command that has such a flag: %q, %v", words, err)
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

// FuzzNormalise: whatever is typed, the result is a line that Go's flag package
// reads to the end, and no operand is lost, made up or changed.
func FuzzNormalise(f *testing.F) {
	f.Add("-dp\x0080:80\x00image", true)
	f.Add("--name=x\x00--\x00-t", false)
	f.Add("-it=0\x00-\x00--env\x00--\x00", true)
	f.Fuzz(func(t *testing.T, line string, interspersed bool) {
		args := strings.Split(line, "\x00")
		words, operands, err := Normalise(flags(), args, interspersed)
		if err != nil || slices.Contains(words, "--help") {
			return
		}
		set := flag.NewFlagSet("", flag.ContinueOnError)
		set.SetOutput(io.Discard)
		for _, fl := range flags() {
			if err := fl.Apply(set); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Parse(append(append(words, "--"), operands...)); err != nil {
			t.Errorf("%q: %v", args, err)
		}
		if !slices.Equal(set.Args(), operands) && len(operands) > 0 {
			t.Errorf("%q: operands %q are read as %q", args, operands, set.Args())
		}
		for _, o := range operands {
			i := slices.Index(args, o)
			if i < 0 {
				t.Fatalf("%q: operand %q is not among the words", args, o)
			}
			args = args[i+1:]
		}
	})
}
