#!/bin/sh
# Turns the schemas beside this file into TypeScript: `npm run schema`, or with a folder to write to as argument.
# Needs flatc 2.0.8 (Debian: flatbuffers-compiler). Its output is for another module system and has enums, which
# the compiler settings forbid; what is done about both is below, line by line.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
out=${1:-$here/gen}
mkdir -p "$out"
rm -f "$out"/*.ts
flatc --ts -o "$out" "$here"/*.fbs
# Barrels.
rm -f "$out"/*_generated.ts
for file in "$out"/*.ts; do
  # Unions come with functions that nobody calls and that need all tables; imports get their suffix; an enum
  # becomes an object and numbers.
  sed -E \
    -e '/^export function union/,/^}/d' \
    -e 's/, union(List)?To[A-Za-z]+//g' \
    -e 's/<T extends flatbuffers.Table>//' \
    -e "s/^(import .* from '\.\/[^']*)';/\1.js';/" \
    -e '/^export enum/,/^}/s/^([[:space:]]+[A-Za-z]+) = /\1: /' \
    -e '/^export enum/,/^}/s/^}/} as const;/' \
    -e 's/^export enum ([A-Za-z]+) \{/export type \1 = number;\nexport const \1 = {/' \
    "$file" >"$file.new"
  # A union needs the imports of its members only for the functions removed above.
  if grep -q '^export const' "$file.new"; then sed -i '/^import /d' "$file.new"; fi
  mv "$file.new" "$file"
done
