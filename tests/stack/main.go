// A counter in front of Redis: the smallest service that is not Python.
package main

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

func increment(address string) (string, error) {
	connection, err := net.DialTimeout("tcp", address, time.Second)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(time.Second))
	fmt.Fprint(connection, "INCR visits\r\n")
	line, err := bufio.NewReader(connection).ReadString('\n')
	return strings.Trim(line, ":\r\n"), err
}

func main() {
	slot, redis := os.Getenv("GAMEDAY_SLOT"), os.Getenv("REDIS")
	http.HandleFunc("/healthz", func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "ok") })
	http.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		visits, err := increment(redis)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, "%s %s\n", slot, visits)
	})
	log.Fatal(http.ListenAndServe(os.Args[1], nil))
}
