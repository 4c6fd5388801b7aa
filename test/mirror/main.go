// Command mirror serves the Debian-made base images as a mirror of docker.io on
// loopback, until it is interrupted. It is what `make mirror` runs, for trying
// tutorials on a machine that reaches no image registry:
//
//	make mirror &
//	BOX_REGISTRIES_CONF=… box build -t web testdata/node-app
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"box/test/baseimage"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:5005", "address to serve on")
	images := flag.String("images", strings.Join(baseimage.Names(), ","), "images to serve")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, *listen, strings.Split(*images, ",")); err != nil {
		fmt.Fprintln(os.Stderr, "mirror:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen string, images []string) error {
	dir, err := os.MkdirTemp("", "box-mirror-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	registry, err := baseimage.StartRegistry(context.Background(), dir, listen, "")
	if err != nil {
		return err
	}
	defer registry.Stop() //nolint:errcheck // the process ends with us anyhow
	if err := baseimage.Push(ctx, registry.Addr, images...); err != nil {
		return err
	}
	conf := filepath.Join(dir, "registries.toml")
	if err := baseimage.WriteRegistries(conf, registry.Addr); err != nil {
		return err
	}
	fmt.Printf("serving %s at %s; in another terminal:\n\n    export BOX_REGISTRIES_CONF=%s\n    bin/box pull node:14\n\nCtrl-C ends it.\n",
		strings.Join(images, " "), registry.Addr, conf)
	<-ctx.Done()
	return nil
}
