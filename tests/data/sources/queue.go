// Package queue keeps jobs by priority until a worker takes them.
package queue

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ErrClosed is given to whoever waits when the queue is closed.
var ErrClosed = errors.New("queue: closed")

type Job struct {
	ID       string            `json:"id"`
	Priority int               `json:"priority"`
	Due      time.Time         `json:"due,omitempty"`
	Labels   map[string]string `json:"labels"`

	index int
}

type jobs []*Job

func (j jobs) Len() int           { return len(j) }
func (j jobs) Less(a, b int) bool { return j[a].Priority > j[b].Priority }
func (j jobs) Swap(a, b int) {
	j[a], j[b] = j[b], j[a]
	j[a].index, j[b].index = a, b
}

func (j *jobs) Push(x any) { *j = append(*j, x.(*Job)) }

func (j *jobs) Pop() any {
	old := *j
	n := len(old)
	last := old[n-1]
	*j = old[:n-1]
	return last
}



// Queue is safe for several goroutines.
type Queue struct {
	mu     sync.Mutex
	ready  *sync.Cond
	jobs   jobs
	closed bool
}

func New() *Queue {
	q := &Queue{}
	q.ready = sync.NewCond(&q.mu)
	return q
}

func (q *Queue) Add(job *Job) error {
	q.mu.Lock()
	defer q.mu.Unlock()

	if q.closed {
		return ErrClosed
	}

	heap.Push(&q.jobs, job)
	q.ready.Signal()

	return nil
}

// Take waits for a job, at most until ctx ends.
func (q *Queue) Take(ctx context.Context) (*Job, error) {
	stop := context.AfterFunc(ctx, q.ready.Broadcast)
	defer stop()

	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.jobs) == 0 {

		if q.closed {
			return nil, ErrClosed
		} else if err := ctx.Err(); err != nil {
			return nil, fmt.Errorf("queue: %w after %v", err, time.Second*30)
		}
		q.ready.Wait()
	}
	return heap.Pop(&q.jobs).(*Job), nil
}
