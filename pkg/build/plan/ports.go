package plan

import (
	"fmt"
	"strconv"
	"strings"

	"box/internal/errdefs"
	"box/pkg/build/dockerfile"
)

func (p *planner) expose(s *stage, i *dockerfile.Expose) error {
	look := s.scope.lookup(s.config.Config.Env)
	var ports []string
	for _, word := range i.Ports {
		// A variable may hold several ports, so the words are split after expansion.
		specs, err := p.expand.Words(word, look)
		if err != nil {
			return err
		}
		for _, spec := range specs {
			list, err := parsePorts(spec)
			if err != nil {
				return err
			}
			ports = append(ports, list...)
		}
	}
	if s.config.Config.ExposedPorts == nil {
		s.config.Config.ExposedPorts = map[string]struct{}{}
	}
	for _, port := range ports {
		s.config.Config.ExposedPorts[port] = struct{}{}
	}
	s.note(fmt.Sprintf("EXPOSE %v", ports))
	return nil
}

// parsePorts reads "port[-port][/proto]" and gives "port/proto" for each.
func parsePorts(spec string) ([]string, error) {
	bad := func(why string) error {
		return errdefs.New(errdefs.ErrInvalid, "EXPOSE %s: %s", spec, why)
	}
	if strings.Contains(spec, ":") {
		return nil, bad("an address or host port has no meaning here (publish it with `box run -p`)")
	}
	numbers, proto, _ := strings.Cut(spec, "/")
	proto = strings.ToLower(proto)
	switch proto {
	case "":
		proto = "tcp"
	case "tcp", "udp", "sctp":
	default:
		return nil, bad("the protocol is not tcp, udp or sctp")
	}
	from, to, isRange := strings.Cut(numbers, "-")
	first, err := strconv.ParseUint(from, 10, 16)
	last := first
	if err == nil && isRange {
		last, err = strconv.ParseUint(to, 10, 16)
	}
	if err != nil || last < first {
		return nil, bad("not a port or a range of ports")
	}
	var out []string
	for n := first; n <= last; n++ {
		out = append(out, strconv.FormatUint(n, 10)+"/"+proto)
	}
	return out, nil
}
