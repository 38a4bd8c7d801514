package github

import "github.com/google/go-github/v62/github"

const perPage = 100 // GitHub's most

// maxWalks bounds how often a list that changes while it is read is read.
const maxWalks = 3

// pager fetches one page of a list and GitHub's count of the whole.
type pager[T any] func(github.ListOptions) (items []T, total int, resp *github.Response, err error)

// walk reads all pages of a list. Entries that disappear while it is read
// shift later ones to a page that was read already, where they would be
// missed; when GitHub's own count says so the list is read again, and what
// was seen in any of the walks is returned.
func walk[T any](id func(T) int64, page pager[T]) ([]T, error) {
	var all []T
	at := map[int64]int{}
	for range maxWalks {
		items, whole, err := walkOnce(page)
		if err != nil {
			return nil, err
		}
		for _, item := range items {
			i, known := at[id(item)]
			if !known {
				at[id(item)] = len(all)
				all = append(all, item)
				continue
			}
			all[i] = item
		}
		if whole {
			break
		}
	}
	return all, nil
}

// walkOnce reads all pages and tells whether GitHub's count stayed the same
// and was reached.
func walkOnce[T any](page pager[T]) (all []T, whole bool, err error) {
	opts, first := github.ListOptions{PerPage: perPage}, -1
	for {
		items, total, resp, err := page(opts)
		if err != nil {
			return nil, false, err
		}
		if all = append(all, items...); first < 0 {
			first = total
		}
		if resp.NextPage == 0 {
			return all, total == first && len(all) >= total, nil
		}
		opts.Page = resp.NextPage
	}
}
