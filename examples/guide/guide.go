// Fetches an artifact and says what it is: the same small program as guide.c, Guide.java and guide.rs.
//
//	guide WHAT DATA_DIR GENESIS_FILE PEER
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"kogge.dev/go/kogge"
)

func main() {
	if len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: guide WHAT DATA_DIR GENESIS_FILE PEER")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(what, dataDir, genesisFile, peer string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	genesis, err := os.ReadFile(genesisFile)
	if err != nil {
		return err
	}
	node, err := kogge.Open(ctx, kogge.Config{DataDir: dataDir, Genesis: genesis, Peers: []string{peer}})
	if err != nil {
		return err
	}
	defer node.Close()
	if err := node.Live(ctx); err != nil {
		return err
	}
	_, fetched, err := node.FetchBytes(ctx, what)
	if err != nil {
		return err
	}
	fmt.Println(fetched.Size, fetched.SHA256.Hex(), fetched.LogIndex)
	return nil
}
