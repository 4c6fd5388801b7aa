package house

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestHouseRules holds the whole source to the bar.
func TestHouseRules(t *testing.T) {
	m, err := Measure("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(m)
	for _, f := range m.Findings {
		t.Error(f)
	}
	if m.Median() > MedianFunction {
		t.Errorf("half of the functions have more than %d lines: median %d", MedianFunction, m.Median())
	}
	if share := float64(m.Documented) / float64(m.Exported); share < MinDocumented {
		t.Errorf("only %.0f %% of the exported names are documented, want %.0f %%", share*100, MinDocumented*100)
	}
}

// TestFindings shows that each rule can find something.
func TestFindings(t *testing.T) {
	dir := t.TempDir()
	long := "func long() {\n" + strings.Repeat("\t_ = 1\n", MaxFunction+1) + "}\n"
	src := "package p\n\nimport (\n\t\"fmt\"\n\t\"os\"\n\t\"time\"\n)\n\n" + long + `
func Exported() error {
	time.Sleep(1)
	if os.IsNotExist(nil) {
		return fmt.Errorf("failed to do it")
	}
	return nil
}
` + strings.Repeat("// filler\n", MaxFile)
	if err := os.WriteFile(filepath.Join(dir, "p.go"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	m, err := Measure(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(m.Findings, "\n")
	for _, want := range []string{"func long has 101 lines", "file has", "without a doc comment", "time.Sleep", "os.IsNotExist", "failed to do it"} {
		if !strings.Contains(all, want) {
			t.Errorf("not found: %s in\n%s", want, all)
		}
	}
	if m.Exported != 1 || m.Documented != 0 {
		t.Errorf("exported %d, documented %d; want 1, 0", m.Exported, m.Documented)
	}
}
