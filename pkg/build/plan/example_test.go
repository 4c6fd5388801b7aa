package plan_test

import (
	"context"
	"fmt"

	"box/pkg/build/dockerfile"
	"box/pkg/build/plan"
	"box/pkg/image"
)

// A plan is made without looking at any file or running anything.
func ExampleNew() {
	file, err := dockerfile.Parse("Dockerfile", []byte("FROM debian AS build\nRUN make\nFROM scratch\nCOPY --from=build /out /bin/\nCMD [\"/bin/out\"]\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	resolve := func(_ context.Context, ref plan.ImageRef) (*plan.Base, error) {
		return &plan.Base{Name: "docker.io/library/" + ref.Name + ":latest", Config: &image.Config{}}, nil
	}
	p, err := plan.New(context.Background(), file, plan.Options{Platform: image.Host(), BuildPlatform: image.Host()}, resolve)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, op := range p.Ops {
		fmt.Println(op.Kind, op.Name)
	}
	fmt.Println(p.Config.Config.Cmd)
	// Output:
	// scratch scratch
	// image [build 1/2] FROM docker.io/library/debian:latest
	// run [build 2/2] RUN make
	// copy [stage-1 1/1] COPY --from=build /out /bin/
	// [/bin/out]
}
