package engine

import (
	"errors"
	"math/rand/v2"
	"strconv"

	"box/internal/errdefs"
)

// Random names have Docker's form, an adjective and a surname, from lists of
// our own: people who found out how things work.
var adjectives = [...]string{
	"able", "agile", "alert", "amber", "ample", "ardent", "artful", "astute", "autumn", "blithe",
	"bold", "brave", "breezy", "bright", "brisk", "calm", "candid", "careful", "cheerful", "clear",
	"clever", "cosy", "crisp", "curious", "daring", "deft", "dewy", "droll", "eager", "early",
	"earnest", "elated", "fair", "fearless", "fleet", "fluent", "fond", "frank", "fresh", "frosty",
	"gallant", "gentle", "glad", "golden", "graceful", "grand", "handy", "happy", "hardy", "hearty",
	"honest", "hopeful", "humble", "jolly", "jovial", "keen", "kind", "lively", "loyal", "lucid",
	"lucky", "mellow", "merry", "mild", "modest", "neat", "nimble", "noble", "patient", "placid",
	"plucky", "polite", "proud", "quick", "quiet", "ready", "robust", "rosy", "serene", "sharp",
	"silent", "sincere", "smooth", "snug", "sober", "solid", "spirited", "spry", "steady", "stout",
	"sunny", "swift", "tender", "tidy", "tranquil", "trusty", "upbeat", "valiant", "vivid", "warm",
	"wise", "witty", "young", "zesty",
}

var surnames = [...]string{
	"abel", "airy", "ampere", "archimedes", "avogadro", "babbage", "bell", "bessel", "bohr", "boole",
	"bose", "boyle", "brahe", "cantor", "carnot", "carson", "cauchy", "celsius", "chadwick", "clarke",
	"copernicus", "coulomb", "curie", "cuvier", "dalton", "darwin", "davy", "descartes", "dijkstra", "dirac",
	"doppler", "edison", "einstein", "erdos", "euclid", "euler", "faraday", "fermat", "fermi", "feynman",
	"fibonacci", "fleming", "fourier", "franklin", "galileo", "galois", "gauss", "germain", "goedel", "goodall",
	"halley", "hamilton", "harvey", "heisenberg", "herschel", "hertz", "hilbert", "hodgkin", "hooke", "hopper",
	"hubble", "huygens", "hypatia", "jenner", "joule", "kelvin", "kepler", "kirchhoff", "knuth", "lagrange",
	"laplace", "lavoisier", "leavitt", "leibniz", "linnaeus", "lovelace", "maxwell", "mayer", "meitner", "mendel",
	"mendeleev", "michelson", "napier", "newton", "noether", "nobel", "ohm", "pascal", "pasteur", "pauli",
	"payne", "perlman", "planck", "poincare", "ptolemy", "ramanujan", "riemann", "ritchie", "roentgen", "rubin",
	"rutherford", "sagan", "shannon", "snell", "somerville", "tesla", "thales", "torricelli", "turing", "volta",
	"wallace", "watt", "wegener", "wiles", "wright", "wu", "young", "zuse",
}

// nameTries is how often a random name is drawn anew before a digit is added
// to it, as Docker does.
const nameTries = 3

func randomName(try int) string {
	name := adjectives[rand.IntN(len(adjectives))] + "_" + surnames[rand.IntN(len(surnames))]
	if try >= nameTries {
		name += strconv.Itoa(rand.IntN(10))
	}
	return name
}

// maxNameTries ends the search when nearly every name is taken.
const maxNameTries = 100

// reserveName gives the container the name that the user chose, or a random
// one that is free.
func (e *Engine) reserveName(chosen, id string) (string, error) {
	if chosen != "" {
		return chosen, e.records.ReserveName(chosen, id)
	}
	for try := range maxNameTries {
		name := randomName(try)
		err := e.records.ReserveName(name, id)
		if !errors.Is(err, errdefs.ErrConflict) {
			return name, err
		}
	}
	return "", errdefs.New(errdefs.ErrConflict, "reserve a random name: %d tries met names in use; give one with --name", maxNameTries)
}
