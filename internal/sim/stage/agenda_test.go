package stage

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestAgendaKeepsOneOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var a Agenda
		var got []int
		put := func(d time.Duration, n int) *Entry { return a.After(d, func() { got = append(got, n) }) }
		put(2*time.Second, 4)
		put(time.Second, 1)
		put(time.Second, 2)
		stopped := put(time.Second, 99)
		a.After(time.Second, func() {
			put(0, 3)
			stopped.Stop()
		})
		put(time.Second+1, 98).Stop()
		time.Sleep(time.Second)
		synctest.Wait()
		// 99 was put there before the function that stops it.
		if want := []int{1, 2, 99, 3}; !slices.Equal(got, want) {
			t.Errorf("after a second: got %v, want %v", got, want)
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if want := []int{1, 2, 99, 3, 4}; !slices.Equal(got, want) {
			t.Errorf("after two seconds: got %v, want %v", got, want)
		}
		(*Entry)(nil).Stop()
	})
}
