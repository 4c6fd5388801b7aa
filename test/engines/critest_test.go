package engines

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// critestVar asks for critest, and narrows it to the specs that match it: "." is all.
const critestVar = "BOX_CRITEST"

// spec is what critest reports of one of its own.
type spec struct {
	Texts   []string `json:"ContainerHierarchyTexts"`
	Leaf    string   `json:"LeafNodeText"`
	Kind    string   `json:"LeafNodeType"`
	State   string
	RunTime time.Duration
	Failure struct{ Message string }
}

func (s spec) name() string { return strings.Join(append(slices.Clone(s.Texts), s.Leaf), " ") }

// TestCritest runs the conformance tests of Kubernetes' runtime interface with runc and with
// box-runtime. What passes with runc has to pass.
func TestCritest(t *testing.T) {
	focus := os.Getenv(critestVar)
	if focus == "" {
		t.Skip("takes minutes: make critest")
	}
	standard := map[string]string{}
	eachRuntime(t, func(t *testing.T, rt runtimeUnderTest) {
		counts := map[string]int{}
		for _, s := range critest(t, rt, focus) {
			counts[s.State]++
			switch want, known := standard[s.name()]; {
			case s.State == "skipped" && want != "passed":
			case !known && rt.name == "runc":
				standard[s.name()] = s.State
				if s.State != "passed" {
					t.Logf("%s with runc: %s\n%s", s.State, s.name(), s.Failure.Message)
				}
			case s.State != "passed" && want == "passed" || !known && s.State != "passed":
				t.Errorf("%s: %s\n%s", s.State, s.name(), s.Failure.Message)
			}
		}
		t.Logf("%v", counts)
		if counts["passed"] == 0 {
			t.Error("nothing has passed")
		}
	})
}

// critest runs the specs that match focus with one runtime.
func critest(t *testing.T, rt runtimeUnderTest, focus string) (all []spec) {
	t.Helper()
	found, _ := filepath.Glob(filepath.Join(os.Getenv(cacheVar), "critest-*"))
	if len(found) == 0 {
		t.Skip("needs critest: run scripts/cri-tools.sh critest")
	}
	c := newCRI(t, rt, newCNI(t), serveStandIns(t))
	c.do("rmp", "-f", "-a")
	report := filepath.Join(t.TempDir(), "report.json")
	endpoint := c.base[2]
	cmd := exec.Command(found[len(found)-1], "-runtime-endpoint", endpoint, "-image-endpoint", endpoint,
		"-ginkgo.json-report", report, "-ginkgo.no-color", "-ginkgo.focus", focus, "-ginkgo.timeout", "30m")
	log, err := cmd.CombinedOutput()
	text, errRead := os.ReadFile(report)
	var suites []struct{ SpecReports []spec }
	if errRead != nil || json.Unmarshal(text, &suites) != nil || len(suites) != 1 {
		t.Fatalf("critest: %v, %v\n%s", err, errRead, log)
	}
	for _, s := range suites[0].SpecReports {
		if s.Kind == "It" {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b spec) int { return int(b.RunTime - a.RunTime) })
	return all
}
