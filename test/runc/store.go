package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
)

// storeKey names what was run: a bats file, under a view, with a runtime.
type storeKey struct{ view, runtime, file string }

// store keeps outcomes as JSON, one file per key, so that runc runs once and
// the table can be made at any time.
type store struct{ dir string }

func (s store) path(k storeKey) string {
	return filepath.Join(s.dir, k.view, k.runtime, k.file+".json")
}

func (s store) read(k storeKey) ([]result, error) {
	data, err := os.ReadFile(s.path(k))
	if err != nil {
		return nil, err
	}
	var results []result
	return results, json.Unmarshal(data, &results)
}

func (s store) write(k storeKey, results []result) error {
	data, err := json.MarshalIndent(results, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.path(k)), 0o755); err != nil {
		return err
	}
	aside, err := os.CreateTemp(filepath.Dir(s.path(k)), "tmp")
	if err != nil {
		return err
	}
	_, err = aside.Write(data)
	if closeErr := aside.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return err
	}
	return os.Rename(aside.Name(), s.path(k))
}

// filtered keeps the tests that -f selects.
func (s *session) filtered(results []result) ([]result, error) {
	if s.filter == "" {
		return results, nil
	}
	expr, err := regexp.Compile(s.filter)
	if err != nil {
		return nil, err
	}
	var kept []result
	for _, r := range results {
		if expr.MatchString(r.Name) {
			kept = append(kept, r)
		}
	}
	return kept, nil
}
