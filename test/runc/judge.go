package main

import (
	"bufio"
	"fmt"
	"os"
	"slices"
	"strings"
)

// difference is a line of known.txt: a test in which the runtime differs from
// runc on purpose.
type difference struct {
	view, file, name string // view and name may end in *
	why              string
}

func (d difference) covers(view, file, name string) bool {
	return fits(d.view, view) && d.file == file && fits(d.name, name)
}

// fits compares with a pattern, whose only special character is a star at its end.
func fits(pattern, s string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, start)
	}
	return pattern == s
}

// readKnown reads the list: "view | file | test | reason" per line, # for comments.
func readKnown(file string) ([]difference, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the list of known differences: %w", err)
	}
	defer f.Close()
	var all []difference
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fields := strings.SplitN(line, "|", 4)
		if len(fields) != 4 {
			return nil, fmt.Errorf("%s:%d: want view | file | test | reason", file, n)
		}
		for i := range fields {
			fields[i] = strings.TrimSpace(fields[i])
		}
		all = append(all, difference{view: fields[0], file: fields[1], name: fields[2], why: fields[3]})
	}
	return all, lines.Err()
}

// verdict is one test of both runtimes.
type verdict struct {
	view, file string
	base, ours result
	known      string // reason of a known difference
	wrong      string // why this is an error; "" if it is none
}

// judge pairs the tests of a file and says which are errors. runc's outcome is
// the standard: where it fails or skips on this machine, nothing is asked.
func judge(view, file string, base, ours []result, known []difference) []verdict {
	byName := map[string]result{}
	for _, r := range ours {
		byName[r.Name] = r
	}
	var all []verdict
	for _, b := range base {
		o, ok := byName[b.Name]
		if !ok {
			o = result{Name: b.Name, Outcome: missing}
		}
		v := verdict{view: view, file: file, base: b, ours: o}
		if i := slices.IndexFunc(known, func(d difference) bool { return d.covers(view, file, b.Name) }); i >= 0 {
			v.known = known[i].why
		}
		v.wrong = wrong(v)
		all = append(all, v)
	}
	return all
}

func wrong(v verdict) string {
	good := v.ours.Outcome == passed
	switch {
	case v.base.Outcome != passed:
		return ""
	case good && v.known != "":
		return "listed as a known difference, but passes"
	case good, v.known != "":
		return ""
	case v.ours.Outcome == skipped:
		return "skipped: " + v.ours.Why
	}
	return strings.TrimSpace(string(v.ours.Outcome) + " " + v.ours.Why)
}

func errorsIn(all []verdict) (bad []verdict) {
	for _, v := range all {
		if v.wrong != "" {
			bad = append(bad, v)
		}
	}
	return bad
}

// report is what is printed when a file has been run.
func report(view, file string, all []verdict, verbose bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-5s %-26s %s\n", view, file, counts(all))
	for _, v := range all {
		if v.ours.Why == whyAgain {
			fmt.Fprintf(&b, "      %s: %s\n", v.ours.Name, whyAgain)
		}
	}
	for _, v := range errorsIn(all) {
		fmt.Fprintf(&b, "      %s: %s\n", v.ours.Name, v.wrong)
		for _, line := range v.ours.Output {
			if verbose {
				fmt.Fprintf(&b, "          %s\n", line)
			}
		}
	}
	return b.String()
}

// counts are the tests by what came of them.
func counts(all []verdict) string {
	n := map[string]int{}
	for _, v := range all {
		n[class(v)]++
	}
	text := fmt.Sprintf("%d as runc", n["same"])
	for _, c := range []string{"wrong", "known", "better", "not here"} {
		if n[c] > 0 {
			text += fmt.Sprintf(", %d %s", n[c], c)
		}
	}
	return text
}

func class(v verdict) string {
	switch {
	case v.wrong != "":
		return "wrong"
	case v.base.Outcome == passed && v.known != "":
		return "known"
	case v.base.Outcome == passed:
		return "same"
	case v.ours.Outcome == passed && v.base.Outcome != skipped:
		return "better"
	}
	return "not here"
}

// summary is the last line: all views together.
func summary(all []verdict) string {
	return fmt.Sprintf("%d tests: %s\n", len(all), counts(all))
}

// table shows every test that is not simply as in runc, and the totals of each
// file, in Markdown.
func table(all []verdict) string {
	var b strings.Builder
	b.WriteString("| view | file | test | runc | runtime | remark |\n|---|---|---|---|---|---|\n")
	for _, v := range all {
		if class(v) == "same" {
			continue
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", v.view, v.file, cell(v.ours.Name), v.base.Outcome, v.ours.Outcome, cell(remark(v)))
	}
	fmt.Fprintf(&b, "\n%s", summary(all))
	return b.String()
}

func remark(v verdict) string {
	switch class(v) {
	case "wrong":
		return "**" + v.wrong + "**"
	case "known":
		return "known: " + v.known
	case "better":
		return "better than runc here"
	}
	return v.base.Why
}

// cell keeps a text from ending its cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
