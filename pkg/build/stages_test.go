package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"box/pkg/build/solve"
	"box/pkg/image"

	"github.com/google/go-cmp/cmp"
)

// TestStages builds a file with several stages: what is copied, what keeps its
// owner, what is not run.
func TestStages(t *testing.T) {
	w := newWorld(t)
	text := "FROM busybox AS build\nRUN mkdir /out && echo bin > /out/bin && chmod 755 /out/bin && chown 7:8 /out/bin && ln /out/bin /out/same && ln -s bin /out/link\n" +
		"FROM busybox AS unused\nRUN false\n" +
		"FROM scratch\nCOPY --from=build /out /\nCOPY --from=0 --chown=0:0 /out/bin /again\nCOPY --from=busybox /etc/passwd /etc/\nENTRYPOINT [\"/bin\"]\n"
	r := w.build(text)
	if d := cmp.Diff([]string{"bin 0755 7:8", "link 0777 0:0 -> bin", "same 0755 7:8 -> bin"}, w.layerAt(r.Image, 0)); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"again 0755 0:0"}, w.layerAt(r.Image, 1)); d != "" {
		t.Error(d)
	}
	if again := w.build(text); again.Ran != 0 || again.Image.ID != r.Image.ID {
		t.Errorf("second build ran %d", again.Ran)
	}
	// The stage runs again and gives the same files: who copies them is cached.
	changed := strings.Replace(text, "RUN mkdir", "RUN true; mkdir", 1)
	if third := w.build(changed); third.Ran != 1 {
		t.Errorf("ran %d: %q", third.Ran, w.misses())
	}
}

// TestStagesRunAtOnce lets two stages wait for each other: in sequence the
// build could not end.
func TestStagesRunAtOnce(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	started := make(chan int, 2)
	both := make(chan struct{})
	go func() {
		<-started
		<-started
		close(both)
	}()
	_, err := w.try(ctx, "FROM busybox AS a\nRUN sleep 1000\nFROM busybox AS b\nRUN sleep 1001\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n", func(r *Request) {
		r.Progress = func(e Event) {
			if e.Kind == solve.Started {
				started <- e.Step
			}
		}
		go func() {
			<-both
			cancel()
		}()
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
}

// TestCancel stops a build while a command runs.
func TestCancel(t *testing.T) {
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := w.try(ctx, "FROM busybox\nRUN echo running; sleep 1000\n", func(r *Request) {
		r.Progress = func(e Event) {
			if e.Kind == solve.Output {
				cancel()
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error: %v", err)
	}
	w.nothingLeft()
}

// TestOneFailureStopsTheRest checks that a failing stage ends the others and
// that its error is the one reported.
func TestOneFailureStopsTheRest(t *testing.T) {
	w := newWorld(t)
	_, err := w.try(t.Context(), "FROM busybox AS a\nRUN sleep 1000\nFROM busybox AS b\nRUN exit 9\nFROM scratch\nCOPY --from=a / /\nCOPY --from=b / /\n", nil)
	var run *RunError
	if !errors.As(err, &run) || run.ExitCode != 9 {
		t.Errorf("error: %v", err)
	}
}

// TestSameStepsRunOnce checks that equal steps of different stages are one.
func TestSameStepsRunOnce(t *testing.T) {
	w := newWorld(t)
	r := w.build("FROM busybox AS a\nRUN echo same\nRUN echo a > /a\nFROM busybox AS b\nRUN echo same\nRUN echo b > /b\nFROM scratch\nCOPY --from=a /a /\nCOPY --from=b /b /\n")
	if got := strings.Count(w.output(), "same"); got != 1 || r.Ran != 5 {
		t.Errorf("the common step ran %d times, %d steps in all", got, r.Ran)
	}
}

// TestImageConfig checks config and history of an image as its readers see them.
func TestImageConfig(t *testing.T) {
	w := newWorld(t)
	w.put("f", "x")
	when := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(w.dir, "f"), when, when); err != nil {
		t.Fatal(err)
	}
	text := "FROM busybox\nCOPY f /\nENV A=b\nEXPOSE 80\nUSER app\nLABEL k=v\nVOLUME /data\nSTOPSIGNAL SIGINT\nHEALTHCHECK CMD true\nENTRYPOINT [\"e\"]\n"
	r, err := w.try(t.Context(), text, func(r *Request) {
		r.Tags, r.Labels = []string{"made", "localhost:5000/x:y"}, map[string]string{"cli": "1"}
	})
	if err != nil {
		t.Fatal(err)
	}
	c := r.Image.Config
	if d := cmp.Diff([]string{"docker.io/library/made:latest", "localhost:5000/x:y"}, r.Image.Names); d != "" {
		t.Error(d)
	}
	if !r.Image.Created().Equal(when) {
		t.Errorf("created %v, want the time of the newest file", r.Image.Created())
	}
	if c.Config.Cmd != nil || c.Config.Healthcheck == nil || c.Config.Labels["cli"] != "1" || c.Config.User != "app" || c.Architecture != image.Host().Architecture {
		t.Errorf("config: %+v", c)
	}
	var lines []string
	for _, h := range c.History {
		e := ""
		if h.EmptyLayer {
			e = " (empty)"
		}
		lines = append(lines, h.CreatedBy+e)
	}
	want := []string{
		"made by the test", "COPY f / # buildkit", "ENV A=b (empty)", "EXPOSE [80/tcp] (empty)", "USER app (empty)", "LABEL k=v (empty)",
		"VOLUME [/data] (empty)", "STOPSIGNAL SIGINT (empty)", "HEALTHCHECK {Test:[CMD-SHELL true] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0} (empty)",
		`ENTRYPOINT ["e"] (empty)`,
	}
	if d := cmp.Diff(want, lines); d != "" {
		t.Error(d)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(r.Image.RawConfig, &raw); err != nil || raw["rootfs"] == nil {
		t.Errorf("raw config: %v", err)
	}
}

// TestSameInputsSameImage builds the same files in two data roots.
func TestSameInputsSameImage(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	when := time.Date(2023, 1, 2, 3, 4, 5, 6, time.UTC)
	for _, w := range []*world{a, b} {
		w.put("d/f", "x")
		for _, p := range []string{"d/f", "d", "."} {
			if err := os.Chtimes(filepath.Join(w.dir, p), when, when); err != nil {
				t.Fatal(err)
			}
		}
	}
	text := "FROM busybox\nWORKDIR /w/x\nCOPY . .\nCOPY <<h /etc/h\nhello\nh\nRUN true\nLABEL a=b\n"
	if x, y := a.build(text), b.build(text); x.Image.Manifest.Digest != y.Image.Manifest.Digest {
		t.Errorf("%s\n%s", x.Image.RawConfig, y.Image.RawConfig)
	}
}

// TestFromScratch builds images with next to nothing in them.
func TestFromScratch(t *testing.T) {
	w := newWorld(t)
	r := w.build("FROM scratch\nCMD [\"x\"]\n")
	if len(r.Image.Layers) != 0 {
		t.Errorf("%d layers", len(r.Image.Layers))
	}
	w.put("busybox", busyboxFiles(t)[1].data)
	r = w.build("FROM scratch\nCOPY --chmod=755 busybox /busybox\nRUN [\"/busybox\", \"touch\", \"/made\"]\n")
	if d := cmp.Diff([]string{"made 0644 0:0"}, w.layer(r.Image)); d != "" {
		t.Error(d)
	}
	r = w.build("FROM busybox AS base\nFROM base\n")
	if r.Ran != 0 || r.Image.Config.Config.Cmd[0] != "sh" {
		t.Errorf("%+v", r.Image.Config)
	}
}

// TestHeredocScripts checks the forms of RUN with a heredoc.
func TestHeredocScripts(t *testing.T) {
	w := newWorld(t)
	w.build("FROM busybox\nARG W=w\nRUN <<EOF\necho plain $W\nEOF\nRUN <<S\n#!/bin/cat\nscript text\nS\nRUN cat <<A - <<B\nfirst\nA\nsecond\nB\n")
	if got := w.output(); got != "plain w\n#!/bin/cat\nscript text\nsecond\n" {
		t.Errorf("output %q", got)
	}
}

// TestOnbuild checks that triggers fire in the child only.
func TestOnbuild(t *testing.T) {
	w := newWorld(t)
	w.put("src", "s")
	if _, err := w.try(t.Context(), "FROM busybox\nONBUILD COPY src /from-child\nONBUILD RUN cat /from-child\n", func(r *Request) { r.Tags = []string{"parent"} }); err != nil {
		t.Fatal(err)
	}
	if w.output() != "" {
		t.Errorf("a trigger fired in the parent: %s", w.output())
	}
	r := w.build("FROM parent\n")
	if w.output() != "s" || len(r.Image.Config.Config.OnBuild) != 0 {
		t.Errorf("output %q, triggers %q", w.output(), r.Image.Config.Config.OnBuild)
	}
}

// TestLostLayerIsMadeAgain removes what the cache refers to.
func TestLostLayerIsMadeAgain(t *testing.T) {
	w := newWorld(t)
	text := "FROM busybox\nRUN echo a > /a\nRUN cat /a\n"
	first := w.build(text)
	// The snapshots only: they come back from the blobs.
	for _, d := range []string{"snapshots/layers"} {
		entries, err := os.ReadDir(filepath.Join(w.env.Root, d))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(w.env.Root, d, e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	r := w.build(text + "RUN cat /a\n")
	if r.Ran != 1 || w.output() != "a\n" {
		t.Errorf("ran %d, output %q", r.Ran, w.output())
	}
	// A blob of a cached layer: the step runs again.
	f, err := w.env.Store.Blob(first.Image.Layers[1].Digest)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := os.Remove(f.Name()); err != nil {
		t.Fatal(err)
	}
	if r := w.build(text); r.Ran == 0 {
		t.Error("a lost blob was not noticed")
	}
}

// TestGarbageCollectionKeepsTheCache collects garbage after the image is gone.
func TestGarbageCollectionKeepsTheCache(t *testing.T) {
	w := newWorld(t)
	text := "FROM busybox\nRUN echo a > /a\n"
	w.build(text)
	if err := w.env.Store.GC(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r := w.build(text); r.Ran != 0 {
		t.Errorf("ran %d: %q", r.Ran, w.misses())
	}
}

// TestNoCache runs everything although it is there.
func TestNoCache(t *testing.T) {
	w := newWorld(t)
	text := "FROM busybox\nRUN echo a\n"
	w.build(text)
	r, err := w.try(t.Context(), text, func(r *Request) { r.NoCache = true })
	if err != nil || r.Ran != 1 {
		t.Errorf("ran %+v: %v", r, err)
	}
}

// TestReasons checks that a miss says what is different.
func TestReasons(t *testing.T) {
	w := newWorld(t)
	w.put("a", "1")
	w.put("b", "1")
	build := func(text string) []string {
		w.build(text)
		return w.misses()
	}
	base := "FROM busybox\nARG V=1\nRUN echo $V\nCOPY a b /d/\n"
	build(base)
	for _, c := range []struct {
		text string
		do   func()
		want []string
	}{
		{"FROM busybox\nARG V=2\nRUN echo $V\nCOPY a b /d/\n", nil, []string{"variable V changed"}},
		{"FROM busybox\nARG V=2\nRUN echo $V \nCOPY a b /e/\n", nil, []string{"instruction changed"}},
		{"FROM busybox\nARG V=2\nRUN echo $V\nCOPY a b /e/\n", func() { w.put("a", "2") }, []string{"file a changed"}},
	} {
		if c.do != nil {
			c.do()
		}
		if d := cmp.Diff(c.want, build(c.text)); d != "" {
			t.Errorf("%q: %s", c.text, d)
		}
	}
}

// TestBuildsAtOnce runs several builds over the same directories.
func TestBuildsAtOnce(t *testing.T) {
	w := newWorld(t)
	w.put("f", "x")
	text := "FROM busybox\nCOPY f /\nRUN cat /f > /g\nFROM scratch\nCOPY --from=0 /g /\n"
	ids := make(chan string, 6)
	for range cap(ids) {
		go func() {
			r, err := Build(t.Context(), Request{Context: w.dir, Text: []byte(text), Network: "none", NoCache: true}, w.env)
			if err != nil {
				ids <- err.Error()
				return
			}
			ids <- strings.Join(w.layer(r.Image), " ")
		}()
	}
	for range cap(ids) {
		if got := <-ids; got != "g 0644 0:0" {
			t.Errorf("%s", got)
		}
	}
}

// TestDeletionsAndReplacedDirectories follows what was removed and made anew
// through several layers and a copy from the stage.
func TestDeletionsAndReplacedDirectories(t *testing.T) {
	w := newWorld(t)
	w.build("FROM busybox AS a\nRUN mkdir -p /d/old && echo 1 > /d/one && echo 2 > /two\nRUN rm -rf /d /two && mkdir /d && echo new > /d/new\n" +
		"RUN ls /d && test ! -e /two && echo gone\nFROM busybox\nCOPY --from=a /d /got\nRUN find /got | sort\n")
	if d := cmp.Diff("new\ngone\n/got\n/got/new\n", w.output()); d != "" {
		t.Error(d)
	}
}

// TestManySteps builds more layers than one page of mount options can name.
func TestManySteps(t *testing.T) {
	w := newWorld(t)
	var text strings.Builder
	text.WriteString("FROM busybox\n")
	for i := range 130 {
		fmt.Fprintf(&text, "COPY <<f%d /many/\n%d\nf%d\n", i, i, i)
	}
	w.build(text.String() + "RUN ls /many | wc -l\n")
	if w.output() != "130\n" {
		t.Errorf("output %q", w.output())
	}
}
