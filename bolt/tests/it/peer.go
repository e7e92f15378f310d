// Reads, checks and writes databases with bbolt itself.
//
//	peer dump FILE     checks the file and prints what it has
//	peer make FILE     makes a file with all that a file can have, by several transactions
//	peer change FILE   goes on writing the file
package main

import (
	"encoding/hex"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func dump(path string, bucket *bolt.Bucket) {
	fmt.Printf("%s/ %d\n", path, bucket.Sequence())
	must(bucket.ForEach(func(key, value []byte) error {
		below := path + "/" + hex.EncodeToString(key)
		if inner := bucket.Bucket(key); inner != nil {
			dump(below, inner)
		} else {
			fmt.Printf("%s %x\n", below, value)
		}
		return nil
	}))
}

func check(tx *bolt.Tx) error {
	var first error
	for err := range tx.Check() {
		if first == nil {
			first = err
		}
	}
	return first
}

func bucket(tx *bolt.Tx, names ...string) *bolt.Bucket {
	found, err := tx.CreateBucketIfNotExists([]byte(names[0]))
	must(err)
	for _, name := range names[1:] {
		found, err = found.CreateBucketIfNotExists([]byte(name))
		must(err)
	}
	return found
}

func put(bucket *bolt.Bucket, key string, value []byte) {
	must(bucket.Put([]byte(key), value))
}

func fill(db *bolt.DB) {
	for round := 0; round < 4; round++ {
		must(db.Update(func(tx *bolt.Tx) error {
			many := bucket(tx, "many")
			for i := 0; i < 3000; i++ {
				put(many, fmt.Sprintf("%08x", i*2654435761%(1<<32)+round), []byte(fmt.Sprint(i)))
			}
			return nil
		}))
	}
	must(db.Update(func(tx *bolt.Tx) error {
		put(bucket(tx, "large"), "value", make([]byte, 100000))
		put(bucket(tx, "a", "b", "c", "d"), "deep", []byte("value"))
		put(bucket(tx, "a", "b"), "nothing", nil)
		bucket(tx, "a", "empty")
		_, err := bucket(tx, "a", "numbers").NextSequence()
		return err
	}))
	must(db.Update(func(tx *bolt.Tx) error {
		cursor, n := bucket(tx, "many").Cursor(), 0
		for key, _ := cursor.First(); key != nil; key, _ = cursor.Next() {
			if n++; n%3 != 0 {
				must(cursor.Delete())
			}
		}
		put(bucket(tx, "large"), "value", make([]byte, 9000))
		return bucket(tx, "a").DeleteBucket([]byte("empty"))
	}))
}

func change(db *bolt.DB) {
	must(db.Update(func(tx *bolt.Tx) error {
		for i := 0; i < 2000; i++ {
			put(bucket(tx, "many"), fmt.Sprintf("key %06d more", i*7), []byte("more"))
		}
		put(bucket(tx, "nested", "small"), "large", make([]byte, 6000))
		_, err := bucket(tx, "many").NextSequence()
		return err
	}))
	must(db.Update(func(tx *bolt.Tx) error { return tx.DeleteBucket([]byte("large")) }))
	must(db.View(check))
}

func main() {
	verb, file := os.Args[1], os.Args[2]
	options := &bolt.Options{ReadOnly: verb == "dump", NoFreelistSync: len(os.Args) > 3}
	db, err := bolt.Open(file, 0o600, options)
	must(err)
	switch verb {
	case "dump":
		must(db.View(func(tx *bolt.Tx) error {
			must(check(tx))
			root := tx.Cursor().Bucket()
			dump("", root)
			return nil
		}))
	case "make":
		fill(db)
	case "change":
		change(db)
	}
	must(db.Close())
}
