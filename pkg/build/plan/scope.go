package plan

import (
	"strconv"
	"strings"

	"box/pkg/build/dockerfile"
)

// proxyNames are the variables that reach RUN without being declared. They are
// neither in the image's history nor in any digest.
var proxyNames = []string{
	"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "FTP_PROXY", "ftp_proxy",
	"NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy",
}

// variables is an ordered set of names with values.
type variables struct {
	names  []string
	values map[string]string
}

func (v *variables) set(name, value string) {
	if v.values == nil {
		v.values = map[string]string{}
	}
	if _, ok := v.values[name]; !ok {
		v.names = append(v.names, name)
	}
	v.values[name] = value
}

func (v *variables) get(name string) (string, bool) {
	value, ok := v.values[name]
	return value, ok
}

func (v *variables) clone() variables {
	var c variables
	for _, n := range v.names {
		c.set(n, v.values[n])
	}
	return c
}

// scope is what the variables of a stage mean at one point of it.
type scope struct {
	// declared are the names of ARG instructions so far, for the history text.
	declared []string
	// args are the declared variables that have a value.
	args variables
}

func (s *scope) clone() scope {
	return scope{declared: append([]string(nil), s.declared...), args: s.args.clone()}
}

func (s *scope) declare(name string) {
	for _, d := range s.declared {
		if d == name {
			return
		}
	}
	s.declared = append(s.declared, name)
}

// lookup resolves a variable for expansion: ENV wins over an ARG of the same name.
func (s *scope) lookup(env []string) dockerfile.Lookup {
	return func(name string) (string, bool) {
		if v, ok := getEnv(env, name); ok {
			return v, true
		}
		return s.args.get(name)
	}
}

// environment is what a command sees: ENV, then the ARGs that ENV does not hide.
func (s *scope) environment(env []string) []string {
	out := append([]string(nil), env...)
	for _, name := range s.args.names {
		if _, hidden := getEnv(env, name); !hidden {
			out = append(out, name+"="+s.args.values[name])
		}
	}
	if _, ok := getEnv(out, "PATH"); !ok {
		out = append(out, "PATH="+defaultPath)
	}
	return out
}

// historyArgs is the "|2 a=1 b=2" that stands before a command in the history.
func (s *scope) historyArgs(env []string) string {
	if len(s.declared) == 0 {
		return ""
	}
	look := s.lookup(env)
	words := []string{"|" + strconv.Itoa(len(s.declared))}
	for _, name := range s.declared {
		v, _ := look(name)
		words = append(words, name+"="+v)
	}
	return strings.Join(words, " ") + " "
}

// proxies gives the proxy variables of the build that the stage has not declared.
func (s *scope) proxies(buildArgs map[string]string) []string {
	var out []string
	for _, name := range proxyNames {
		v, ok := buildArgs[name]
		if _, declared := s.args.get(name); ok && !declared {
			out = append(out, name+"="+v)
		}
	}
	return out
}
