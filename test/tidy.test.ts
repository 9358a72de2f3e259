import { describe, expect, it } from 'vitest';
import { METRICS } from '../src/base/metrics.js';
import { configLeaves } from '../src/node/config-keys.js';
import {
  functionLengths,
  globalsUsed,
  headCommentLines,
  parseSource,
  readSources,
  type SourceFile,
  visit,
} from './tidy/source-tree.js';

/**
 * The rules of the house that a compiler does not know. Each check lists all offenders at once. Exceptions are
 * tables with a reason; an exception that is not needed any more is an offence, too.
 */

/** A file imports only from lower ranks and its own folder. */
const RANKS: Readonly<Record<string, number>> = {
  base: 0,
  schema: 0,
  topic: 1,
  crdt: 1,
  shard: 1,
  plugin: 1,
  underlay: 2,
  overlay: 3,
  rpc: 4,
  // Layouts only, which kv's frames and store speak as well.
  contract: 4,
  kv: 5,
  deliverer: 6,
  dist: 7,
  inbox: 7,
  retain: 7,
  'session-dict': 7,
  mqtt: 7,
  api: 7,
  node: 8,
};
const ENTRY_RANK = 9;

/** Packages that pure code may use, and the folder in which it may. */
const PURE_PACKAGES: Readonly<Record<string, string>> = {
  'mqtt-packet': 'src/mqtt/codec/',
  flatbuffers: 'src/schema/',
};

/** What pure code gets as an argument instead (`Env`). */
const OUTER_WORLD: ReadonlySet<string> = new Set([
  'Date',
  'Math.random',
  'setTimeout',
  'setInterval',
  'setImmediate',
  'process',
  'performance',
  'crypto',
  'fetch',
  'console',
]);

/** Product files that no entry point reaches, and why they are there. */
const UNREACHED: Readonly<Record<string, string>> = {
  'src/contract/retain.ts': 'describes frames whose layout is a line each in the rooms that speak them',
  'src/contract/session-dict.ts': 'the same',
  'src/kv/memory-engine.ts': 'the twin of the LMDB engine for simulation; one contract suite runs on both',
  'src/shard/inline.ts': 'the mesh in one thread, for simulation',
};

/** Rooms without a door, and why. */
const NO_DOOR: Readonly<Record<string, string>> = {
  base: 'a shelf of independent primitives: each file is its own door',
};

const FILE_LINES_MAX = 500;
const LONG_FILES: Readonly<Record<string, string>> = {
  'test/contract/transport.contract.ts': 'one suite that every transport has to pass whole',
};

const FUNCTION_LINES_MAX = 70;
/** By path and length: a line number would change with every edit above. */
const LONG_FUNCTIONS: Readonly<Record<string, string>> = {};

const DOOR_COMMENT_LINES_MIN = 20;

const product = readSources(['src', 'workers']);
const everything = [...product, ...readSources(['perf', 'test'])];
const byPath = new Map(everything.map(file => [file.path, file]));
const room = (path: string) => /^src\/([^/]+)\//.exec(path)?.[1];
const rooms = [...new Set(product.map(({ path }) => room(path)).filter(name => name !== undefined))];

function isPure({ path }: SourceFile): boolean {
  return path.startsWith('src/') && !path.includes('/io/') && room(path) !== 'node' && path !== 'src/cli.ts';
}

function rankOf(path: string): number | undefined {
  const name = room(path);
  return name === undefined ? ENTRY_RANK : RANKS[name];
}

function offenders(files: readonly SourceFile[], check: (file: SourceFile) => Iterable<string>): string[] {
  return files.flatMap(file => [...check(file)].map(fault => `${file.path}: ${fault}`));
}

describe('layers', () => {
  it('knows the rank of every room', () => {
    expect(rooms.filter(name => RANKS[name] === undefined)).toEqual([]);
  });

  it('lets a file import only lower ranks and its own room', () => {
    const faults = offenders(product, function* ({ path, imports }) {
      for (const { from, file } of imports) {
        if (file === undefined || (room(path) !== undefined && room(file) === room(path))) continue;
        const isLower = file.startsWith('src/') && rankOf(file)! < rankOf(path)!;
        if (!isLower) yield `imports ${from}`;
      }
    });
    expect(faults).toEqual([]);
  });

  it('has no circles of imports', () => {
    const done = new Set<string>();
    const circles: string[] = [];
    const follow = (path: string, trail: readonly string[]) => {
      const at = trail.indexOf(path);
      if (at >= 0) circles.push([...trail.slice(at), path].join(' → '));
      if (at >= 0 || done.has(path)) return;
      for (const { file, isType } of byPath.get(path)?.imports ?? []) {
        if (file !== undefined && !isType) follow(file, [...trail, path]);
      }
      done.add(path);
    };
    for (const { path } of product) follow(path, []);
    expect(circles).toEqual([]);
  });

  it('keeps the outer world out of pure code', () => {
    const faults = offenders(product.filter(isPure), function* (file) {
      for (const { from, file: own } of file.imports) {
        if (own !== undefined) continue;
        const folder = PURE_PACKAGES[from];
        if (folder === undefined || !file.path.startsWith(folder)) yield `imports ${from}`;
      }
      for (const used of globalsUsed(file, OUTER_WORLD)) yield `uses ${used}`;
    });
    expect(faults).toEqual([]);
  });

  it('uses every file, starting from the entry points', () => {
    const reached = new Set<string>();
    const reach = (path: string) => {
      if (reached.has(path)) return;
      reached.add(path);
      for (const { file } of byPath.get(path)?.imports ?? []) if (file !== undefined) reach(file);
    };
    for (const { path } of product) if (path === 'src/cli.ts' || path.startsWith('workers/')) reach(path);
    const unreached = product.map(({ path }) => path).filter(path => !reached.has(path));
    expect(unreached).toEqual(Object.keys(UNREACHED));
  });
});

describe('promises to the operator', () => {
  const words = (files: readonly SourceFile[]) =>
    new Set(files.flatMap(({ text }) => text.match(/\w+/g) ?? []));

  it('reads every configuration key somewhere', () => {
    const read = words(product.filter(({ path }) => !/^src\/node\/config/.test(path)));
    expect([...configLeaves().keys()].filter(key => !read.has(key.slice(key.lastIndexOf('.') + 1)))).toEqual(
      [],
    );
  });

  it('counts every metric somewhere', () => {
    const { text } = byPath.get('src/base/metrics.ts')!;
    const declared = [...text.matchAll(/^export const ([A-Z_]+) = (?:counter|gauge|histogram)\(/gm)].map(
      ([, name]) => name!,
    );
    expect(declared).toHaveLength(METRICS.length);
    const counted = words(product.filter(({ path }) => path !== 'src/base/metrics.ts'));
    expect(declared.filter(name => !counted.has(name))).toEqual([]);
  });
});

describe('files', () => {
  it('has a door with its design in every room', () => {
    const faults = rooms
      .filter(name => NO_DOOR[name] === undefined)
      .map(name => [`src/${name}/${name}.ts`, byPath.get(`src/${name}/${name}.ts`)] as const)
      .filter(([, door]) => !door || headCommentLines(door) < DOOR_COMMENT_LINES_MIN)
      .map(
        ([path, door]) => `${path}: ${door ? `${headCommentLines(door)} lines of head comment` : 'missing'}`,
      );
    expect(faults).toEqual([]);
  });

  it('names files in kebab-case, and none index or utils', () => {
    const faults = everything
      .map(({ path }) => path)
      .filter(path => {
        const name = path.slice(path.lastIndexOf('/') + 1);
        const isKebab =
          /^[a-z][a-z\d]*(-[a-z\d]+)*(\.(fuzz|prop))?(\.(test|bench|contract|config))?\.ts$/.test(name);
        return !isKebab || /^(index|utils?|helpers?)\.ts$/.test(name);
      });
    expect(faults).toEqual([]);
  });

  it('nests folders at most two below src', () => {
    expect(product.map(({ path }) => path).filter(path => path.split('/').length > 4)).toEqual([]);
  });

  it(`keeps files under ${FILE_LINES_MAX} lines, or says why not`, () => {
    const long = everything.filter(({ lines }) => lines > FILE_LINES_MAX).map(({ path }) => path);
    expect(long).toEqual(Object.keys(LONG_FILES));
  });

  it(`keeps functions under ${FUNCTION_LINES_MAX} lines, or says why not`, () => {
    const measured = everything.filter(({ path }) => !path.startsWith('test/'));
    const long = measured.flatMap(file =>
      functionLengths(file)
        .filter(({ lines }) => lines > FUNCTION_LINES_MAX)
        .map(({ lines }) => `${file.path} ${lines}`),
    );
    expect(long).toEqual(Object.keys(LONG_FUNCTIONS));
  });
});

describe('style', () => {
  it('exports by name, except from worker entries and where a tool wants it', () => {
    const faults = offenders(everything, function* ({ path, tree }) {
      const isExempt = path.startsWith('workers/') || path.endsWith('.config.ts');
      for (const { type } of tree.body as { type: string }[]) {
        if (type === 'ExportDefaultDeclaration' && !isExempt) yield 'has a default export';
        if (type === 'ExportAllDeclaration') yield 'is a barrel';
      }
    });
    expect(faults).toEqual([]);
  });

  it('imports our own files with their .js suffix', () => {
    const faults = offenders(everything, function* ({ imports }) {
      for (const { from, file } of imports)
        if (file !== undefined && !byPath.has(file)) yield `imports ${from}`;
    });
    // Built entry points and worker files are reached by path in some tests; generated code is not read here.
    const isKnown = /^test\/.*dist\/|\/schema\/gen\/[a-z-]+\.js$/;
    expect(faults.filter(fault => !isKnown.test(fault))).toEqual([]);
  });

  it('names interfaces for their role', () => {
    const faults = offenders(everything, function* ({ tree }) {
      const names: string[] = [];
      visit(tree, node => {
        const id = node.id as { name?: string } | undefined;
        if (node.type === 'TSInterfaceDeclaration' && /^I[A-Z][a-z]/.test(id?.name ?? ''))
          names.push(id!.name!);
      });
      yield* names;
    });
    expect(faults).toEqual([]);
  });

  it('leaves no work for later and no test switched off', () => {
    const later = new RegExp(
      `\\b(${['TO', 'FIX', 'XX'].map((start, at) => start + ['DO', 'ME', 'X'][at]).join('|')})\\b`,
    );
    const off = /\b(?:describe|it|test|suite)\.(?:only|skip|todo|fails)\b/;
    const faults = offenders(everything, function* ({ path, text }) {
      if (later.test(text)) yield 'leaves work for later';
      if (path.startsWith('test/') && off.test(text) && path !== 'test/tidy.test.ts')
        yield 'switches a test off or others away';
    });
    expect(faults).toEqual([]);
  });
});

describe('the checks themselves', () => {
  const source = (text: string, path = 'src/mqtt/codec/x.ts') => parseSource(path, text);

  it('see globals, but not members, keys, types or local names', () => {
    const used = (text: string) =>
      globalsUsed(source(text), OUTER_WORLD).map(entry => entry.split(' ', 1)[0]);
    expect(used('const at = Date.now(); setTimeout(run, 1); const x = Math.random();')).toEqual([
      'Date',
      'setTimeout',
      'Math.random',
    ]);
    expect(
      used('function process(n: number) { return process(n); } let a: Date; b.fetch(); c = { crypto: 1 };'),
    ).toEqual([]);
    expect(used('// Date.now()\nconst text = "Date.now()"; const re = /Date/;')).toEqual([]);
  });

  it('see every kind of import', () => {
    const { imports } = source(
      "import type { A } from '../a.js'; import { b } from './b.js'; export { c } from '../../c/c.js'; const d = await import('node:fs'); export type { E } from './e.js';",
    );
    expect(imports).toEqual([
      { from: '../a.js', file: 'src/mqtt/a.ts', isType: true },
      { from: './b.js', file: 'src/mqtt/codec/b.ts', isType: false },
      { from: '../../c/c.js', file: 'src/c/c.ts', isType: false },
      { from: 'node:fs', file: undefined, isType: false },
      { from: './e.js', file: 'src/mqtt/codec/e.ts', isType: true },
    ]);
  });

  it('measure functions and head comments', () => {
    const file = source(
      `import { a } from './a.js';\n\n/**\n * one\n */\nfunction f() {\n  return () => {\n    a();\n  };\n}\n`,
    );
    expect(functionLengths(file)).toEqual([
      { line: 6, lines: 5 },
      { line: 7, lines: 3 },
    ]);
    expect(headCommentLines(file)).toBe(3);
    expect(headCommentLines(source('const a = 1;\n/** late */\n'))).toBe(0);
  });
});
