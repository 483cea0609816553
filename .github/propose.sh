#!/bin/sh
# propose.sh BRANCH TITLE REPORT: puts the changes of catalog/hub, and nothing else, up for review in one pull request.
set -eu
branch=$1 title=$2 report=$3
git add catalog/hub
git diff --cached --quiet && exit 0
git config user.name "github-actions[bot]"
git config user.email "41898282+github-actions[bot]@users.noreply.github.com"
git switch -C "$branch"
git commit --quiet -m "$title"
git push --force origin "$branch"
head -c 60000 "$report" > "$report.body"
# Only an open one is updated: the branch of a merged or closed pull request names that one, too.
number=$(gh pr list --head "$branch" --state open --json number --jq '.[0].number // empty')
if [ -n "$number" ]; then
  gh pr edit "$number" --body-file "$report.body"
else
  gh pr create --head "$branch" --title "$title" --body-file "$report.body"
fi
