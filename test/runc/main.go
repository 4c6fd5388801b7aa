// Command runc measures how far an OCI runtime does what runc does, by running
// runc's own integration tests (bats files) against both and comparing test by
// test. It is what `make runc-suite` runs.
//
// Nothing of the suite is kept here: the sources come from the module proxy in a
// fixed version, runc and the small programs that its tests need are built from
// them, and the image archives that the tests unpack are made from Debian's
// packages. All of that lies in a cache and is made once.
//
// Each bats file runs in namespaces and control groups of its own, which are
// removed behind it, so that a test that hangs leaves nothing on the machine. The
// outcome of runc itself on this machine is the standard: what runc cannot do here
// is not asked of others. known.txt lists the tests in which box-runtime differs on
// purpose; any other difference, and a listed test that passes, is an error.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the command line.
type options struct {
	runtime  string // path of the runtime under test
	views    []string
	filter   string // regular expression on test names, given to bats
	fresh    bool   // run runc too, though its outcome is known
	alone    bool   // do not ask runc: every test is to pass that nothing skips
	report   bool   // run nothing, compare what is stored
	prepare  bool   // make the suite and stop
	verbose  bool
	table    string // path of a Markdown file
	known    string
	results  string
	perFile  time.Duration
	perTest  time.Duration
	again    int    // how often a test that differs is repeated
	features string // of a run without root (featureNames); "" runs as root
	files    []string
}

func main() {
	runVerb(os.Args)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ok, err := run(ctx, parseFlags(os.Args[1:]), os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "runc-suite:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// runVerb is this program as a process that it starts itself. It returns if it is not.
func runVerb(args []string) {
	if len(args) < 3 {
		return
	}
	switch args[1] {
	case insideVerb:
		os.Exit(inside(args[2]))
	case sweepVerb:
		os.Exit(sweep(args[2]))
	}
}

func parseFlags(args []string) options {
	var o options
	var views string
	f := flag.NewFlagSet("runc-suite", flag.ExitOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), "usage: go run ./test/runc [flags] [FILE…]\nFILE is a bats file of runc's suite (kill, kill.bats); none means all.\n")
		f.PrintDefaults()
	}
	f.StringVar(&o.runtime, "runtime", "bin/box-runtime", "the runtime under test")
	f.StringVar(&views, "view", "host,v2", "cgroups as the tests see them: "+strings.Join(viewNames, ", "))
	f.StringVar(&o.filter, "f", "", "only tests whose name matches this expression (nothing is stored)")
	f.BoolVar(&o.fresh, "fresh", false, "run runc again, though its outcome is stored")
	f.BoolVar(&o.alone, "alone", false, "do not run runc: every test is to pass that no requirement of its own skips")
	f.BoolVar(&o.report, "report", false, "run nothing: compare the stored outcomes")
	f.BoolVar(&o.prepare, "prepare", false, "make what the tests need, print its place, and stop")
	f.BoolVar(&o.verbose, "v", false, "print what the failing tests said")
	f.StringVar(&o.table, "table", "", "write all stored outcomes as a Markdown table to this file")
	f.StringVar(&o.known, "known", "test/runc/known.txt", "list of the known differences")
	f.StringVar(&o.results, "results", filepath.Join(cacheDir(), "results"), "where outcomes are stored")
	f.DurationVar(&o.perFile, "timeout", 15*time.Minute, "limit for one bats file")
	f.DurationVar(&o.perTest, "test-timeout", 90*time.Second, "limit for one test")
	f.IntVar(&o.again, "again", 2, "repeat a test that differs, alone, as often as this")
	f.StringVar(&o.features, "rootless", "", "run as an ordinary user who has: "+strings.Join(featureNames, ", "))
	_ = f.Parse(args)
	o.views, o.files = strings.Split(views, ","), f.Args()
	return o
}

// run returns whether everything is as it should be.
func run(ctx context.Context, o options, out io.Writer) (bool, error) {
	for _, v := range o.views {
		if !slices.Contains(viewNames, v) {
			return false, fmt.Errorf("view %s: unknown; known: %s", v, strings.Join(viewNames, ", "))
		}
	}
	if err := o.checkFeatures(); err != nil {
		return false, err
	}
	suite, err := prepareSuite(ctx)
	if err != nil || o.prepare {
		fmt.Fprintln(out, suite.dir)
		return err == nil, err
	}
	known, err := readKnown(o.known)
	if err != nil {
		return false, err
	}
	files, err := suite.files(o.files)
	if err != nil {
		return false, err
	}
	if o.needsUserManager() && !o.report {
		if err := startUserManager(ctx); err != nil {
			return false, err
		}
	}
	s := session{options: o, suite: suite, store: store{dir: o.results}, out: out}
	verdicts, err := s.compareAll(ctx, files, known)
	if err != nil {
		return false, err
	}
	fmt.Fprint(out, summary(verdicts))
	if o.table != "" {
		err = os.WriteFile(o.table, []byte(table(verdicts)), 0o644)
	}
	return len(errorsIn(verdicts)) == 0, err
}

// session is one run of the program.
type session struct {
	options
	suite suite
	store store
	out   io.Writer
}

// compareAll runs the files in every view and judges their tests.
func (s *session) compareAll(ctx context.Context, files []string, known []difference) ([]verdict, error) {
	var all []verdict
	for _, view := range s.views {
		for _, file := range files {
			verdicts, err := s.compare(ctx, view, file, known)
			if err != nil {
				return all, err
			}
			all = append(all, verdicts...)
		}
	}
	return all, nil
}

// compare judges one file in one view, and prints what differs.
func (s *session) compare(ctx context.Context, view, file string, known []difference) ([]verdict, error) {
	label := view
	if s.features != "" {
		label += "-rootless-" + s.features
	}
	ours, err := s.outcome(ctx, label, view, file, s.runtime, s.report)
	if err != nil {
		return nil, err
	}
	base, err := s.standard(ctx, label, view, file, ours)
	if err != nil {
		return nil, err
	}
	judged := func(ours []result) []verdict { return judge(label, file, base, ours, known) }
	if !s.report {
		if ours, err = s.repeated(ctx, view, file, ours, judged); err != nil {
			return nil, err
		}
	}
	verdicts := judged(ours)
	fmt.Fprint(s.out, report(label, file, verdicts, s.verbose))
	return verdicts, s.keep(storeKey{view: label, runtime: filepath.Base(s.runtime), file: file}, ours)
}

// standard is what is asked of the runtime under test, whose outcome is ours.
func (s *session) standard(ctx context.Context, label, view, file string, ours []result) ([]result, error) {
	if s.alone {
		return s.expectedIn(file, ours)
	}
	return s.outcome(ctx, label, view, file, s.suite.standard(file), !s.fresh)
}

// outcome is what the tests of a file said of a runtime: the stored answer if
// one is there and wanted.
func (s *session) outcome(ctx context.Context, label, view, file, runtime string, stored bool) ([]result, error) {
	key := storeKey{view: label, runtime: filepath.Base(runtime), file: file}
	if stored {
		if results, err := s.store.read(key); err == nil {
			return s.filtered(results)
		}
		if s.report {
			return nil, nil
		}
	}
	results, err := s.runFile(ctx, view, file, runtime)
	if err != nil {
		return nil, err
	}
	return results, s.keep(key, results)
}

// keep stores what a file's tests said, unless they were not all of its tests.
func (s *session) keep(key storeKey, results []result) error {
	if s.filter != "" || s.report {
		return nil
	}
	return s.store.write(key, results)
}
