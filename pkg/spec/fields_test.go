package spec

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"box/internal/errdefs"
)

// isRefused tells whether a path, or what it is part of, is refused.
func isRefused(path string) bool {
	for _, r := range refused {
		if path == r.path || strings.HasPrefix(path, r.path+".") {
			return true
		}
	}
	return false
}

// leaves lists the paths of all fields below a type that hold values.
func leaves(t reflect.Type, path string) []string {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice || t.Kind() == reflect.Map {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct {
		return []string{path}
	}
	var list []string
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.Anonymous {
			name = strings.TrimPrefix(path+"."+name, ".")
		} else {
			name = path
		}
		list = append(list, leaves(f.Type, name)...)
	}
	return list
}

// set gives the field at path a value that means something, making what leads to
// it.
func set(t *testing.T, v reflect.Value, path string) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		set(t, v.Elem(), path)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		set(t, v.Index(0), path)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		value := reflect.New(v.Type().Elem()).Elem()
		set(t, value, path)
		v.SetMapIndex(reflect.ValueOf("key"), value)
	case reflect.Struct:
		if path != "" {
			name, rest, _ := strings.Cut(path, ".")
			set(t, fieldByTag(t, v, name), rest)
		}
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Interface:
		v.Set(reflect.ValueOf("x"))
	default:
		if v.CanUint() {
			v.SetUint(1)
		} else {
			v.SetInt(1)
		}
	}
}

func fieldByTag(t *testing.T, v reflect.Value, name string) reflect.Value {
	t.Helper()
	for f := range v.Type().Fields() {
		if f.Anonymous {
			if _, ok := f.Type.FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, name) }); ok {
				return fieldByTag(t, v.FieldByIndex(f.Index), name)
			}
		}
		if tag, _, _ := strings.Cut(f.Tag.Get("json"), ","); tag == name {
			return v.FieldByIndex(f.Index)
		}
	}
	t.Fatalf("%s has no field %s", v.Type(), name)
	return reflect.Value{}
}

// TestRefusedFieldsAreRefused sets each refused field, and each one below it.
func TestRefusedFieldsAreRefused(t *testing.T) {
	for _, path := range leaves(reflect.TypeFor[specs.Spec](), "") {
		var s specs.Spec
		set(t, reflect.ValueOf(&s).Elem(), path)
		if path == "linux.resources.memory.useHierarchy" {
			*s.Linux.Resources.Memory.UseHierarchy = false // true is how v2 works
		}
		err := refuse(&s)
		if want := isRefused(path); want != errors.Is(err, errdefs.ErrUnsupported) {
			t.Errorf("%s: refused %v: %v", path, want, err)
		}
		if err != nil && !strings.HasPrefix(path, strings.SplitN(err.Error(), ":", 2)[0]) {
			t.Errorf("%s: the error names another field: %v", path, err)
		}
	}
}

// TestEmptyRequests: values that engines write without being asked.
func TestEmptyRequests(t *testing.T) {
	yes, no, zero, minus, max := true, false, int64(0), int64(-1), ^uint64(0)
	s := specs.Spec{
		Process: &specs.Process{ApparmorProfile: "unconfined"},
		Linux: &specs.Linux{
			Resources: &specs.LinuxResources{
				Memory:  &specs.LinuxMemory{Kernel: &minus, KernelTCP: &zero, DisableOOMKiller: &no, UseHierarchy: &yes, Swappiness: &max},
				CPU:     &specs.LinuxCPU{RealtimeRuntime: &zero},
				Network: &specs.LinuxNetwork{},
			},
		},
	}
	if err := refuse(&s); err != nil {
		t.Error(err)
	}
}
