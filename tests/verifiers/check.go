// Checks an exported ledger with Go's transparency log code (golang.org/x/mod/sumdb):
// check FOLDER LOG_VKEY_FILE VALIDATORS_VKEYS_FILE [OLDER_CHECKPOINT].
//
// The checkpoint's signature by the log key (type 0x01), every tile against the root, an inclusion proof of every entry, and
// the consistency with the older checkpoint. That code knows no cosignatures; the validators' keys are not read.
// Prints one JSON object. Exit code 0 if everything verifies, 1 if something does not.
package main

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

const height = 8

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "check FOLDER LOG_VKEY_FILE VALIDATORS_VKEYS_FILE [OLDER_CHECKPOINT]")
		os.Exit(3)
	}
	older := ""
	if len(os.Args) > 4 {
		older = os.Args[4]
	}
	report, err := check(os.Args[1], os.Args[2], older)
	if err != nil {
		report = map[string]interface{}{"refused": err.Error()}
	}
	json.NewEncoder(os.Stdout).Encode(report)
	if err != nil {
		os.Exit(1)
	}
}

func check(folder, keyFile, olderFile string) (map[string]interface{}, error) {
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, err
	}
	verifier, err := note.NewVerifier(strings.TrimSpace(string(key)))
	if err != nil {
		return nil, err
	}
	tree, err := open(filepath.Join(folder, "checkpoint"), verifier)
	if err != nil {
		return nil, err
	}
	hashes := tlog.TileHashReader(tree, &tiles{folder})
	root, err := tlog.TreeHash(tree.N, hashes)
	if err != nil {
		return nil, err
	}
	if root != tree.Hash {
		return nil, fmt.Errorf("the tiles give another root")
	}
	entries := int64(0)
	for n := int64(0); n*256 < tree.N; n++ {
		width := tree.N - n*256
		if width > 256 {
			width = 256
		}
		bundle, err := os.ReadFile(filepath.Join(folder, path(tlog.Tile{H: height, L: -1, N: n, W: int(width)})))
		if err != nil {
			return nil, err
		}
		for len(bundle) > 0 {
			if len(bundle) < 2 {
				return nil, fmt.Errorf("entry bundle %d is cut", n)
			}
			length := int(bundle[0])<<8 | int(bundle[1])
			if len(bundle) < 2+length {
				return nil, fmt.Errorf("entry bundle %d is cut", n)
			}
			leaf := tlog.RecordHash(bundle[2 : 2+length])
			bundle = bundle[2+length:]
			proof, err := tlog.ProveRecord(tree.N, entries, hashes)
			if err != nil {
				return nil, err
			}
			if err := tlog.CheckRecord(proof, tree.N, tree.Hash, entries, leaf); err != nil {
				return nil, fmt.Errorf("entry %d: %v", entries, err)
			}
			entries++
		}
	}
	report := map[string]interface{}{"size": tree.N, "entries": entries}
	if olderFile != "" {
		older, err := open(olderFile, verifier)
		if err != nil {
			return nil, fmt.Errorf("older checkpoint: %v", err)
		}
		proof, err := tlog.ProveTree(tree.N, older.N, hashes)
		if err != nil {
			return nil, err
		}
		if err := tlog.CheckTree(proof, tree.N, tree.Hash, older.N, older.Hash); err != nil {
			return nil, err
		}
		report["older_size"] = older.N
	}
	return report, nil
}

// open verifies a checkpoint's signature and reads its tree. tlog.ParseTree knows only the origin line of Go's own database.
func open(file string, verifier note.Verifier) (tlog.Tree, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return tlog.Tree{}, err
	}
	opened, err := note.Open(text, note.VerifierList(verifier))
	if err != nil {
		return tlog.Tree{}, err
	}
	lines := strings.Split(opened.Text, "\n")
	if len(lines) != 4 || lines[0] != verifier.Name() || lines[3] != "" {
		return tlog.Tree{}, fmt.Errorf("a checkpoint of another form")
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil {
		return tlog.Tree{}, err
	}
	root, err := base64.StdEncoding.DecodeString(lines[2])
	if err != nil || len(root) != tlog.HashSize {
		return tlog.Tree{}, fmt.Errorf("a root of another form")
	}
	tree := tlog.Tree{N: size}
	copy(tree.Hash[:], root)
	return tree, nil
}

// tiles reads tiles by their C2SP paths, which leave the height out that Go's own have.
type tiles struct{ folder string }

func (t *tiles) Height() int { return height }

func (t *tiles) ReadTiles(wanted []tlog.Tile) ([][]byte, error) {
	data := make([][]byte, len(wanted))
	for i, tile := range wanted {
		bytes, err := os.ReadFile(filepath.Join(t.folder, path(tile)))
		if err != nil {
			return nil, err
		}
		data[i] = bytes
	}
	return data, nil
}

func (t *tiles) SaveTiles([]tlog.Tile, [][]byte) {}

func path(tile tlog.Tile) string {
	p := tile.Path()
	p = strings.Replace(p, fmt.Sprintf("tile/%d/data/", height), "tile/entries/", 1)
	return strings.Replace(p, fmt.Sprintf("tile/%d/", height), "tile/", 1)
}
