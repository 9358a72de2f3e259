import { readdirSync, readFileSync } from 'node:fs';
import { posix } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAst } from 'rolldown/parseAst';

/** A node of the syntax tree (ESTree with TypeScript), as far as these checks look at it. */
export interface SyntaxNode {
  readonly type: string;
  readonly start: number;
  readonly end: number;
  readonly [key: string]: unknown;
}

export interface Import {
  /** As written. */
  readonly from: string;
  /** Path from the root of the project when it is one of our files; undefined for packages. */
  readonly file: string | undefined;
  readonly isType: boolean;
}

export interface SourceFile {
  /** From the root of the project, with forward slashes. */
  readonly path: string;
  readonly text: string;
  readonly lines: number;
  readonly tree: SyntaxNode;
  readonly imports: readonly Import[];
}

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** Written by the FlatBuffers compiler. */
const GENERATED = /^src\/schema\/gen\//;

/** All TypeScript files below the named top-level folders. */
export function readSources(folders: readonly string[]): SourceFile[] {
  const paths = folders.flatMap(folder =>
    readdirSync(posix.join(ROOT, folder), { recursive: true, encoding: 'utf8' })
      .filter(name => name.endsWith('.ts'))
      .map(name => posix.join(folder, name)),
  );
  return paths
    .filter(path => !GENERATED.test(path))
    .sort()
    .map(path => parseSource(path, readFileSync(posix.join(ROOT, path), 'utf8')));
}

export function parseSource(path: string, text: string): SourceFile {
  const tree = parseAst(text, { lang: 'ts' }, path) as unknown as SyntaxNode;
  const imports: Import[] = [];
  visit(tree, node => {
    const source = node.source as SyntaxNode | null | undefined;
    const isImport = /^(Import|ExportNamed|ExportAll)(Declaration|Expression)$/.test(node.type);
    if (!isImport || typeof source?.value !== 'string') return;
    const from = source.value;
    const file = from.startsWith('.')
      ? posix.join(posix.dirname(path), from).replace(/\.js$/, '.ts')
      : undefined;
    imports.push({ from, file, isType: node.importKind === 'type' || node.exportKind === 'type' });
  });
  return { path, text, lines: text.split('\n').length - 1, tree, imports };
}

/** Calls `enter` for every node, with the node around it. */
export function visit(
  node: SyntaxNode,
  enter: (node: SyntaxNode, parent: SyntaxNode | undefined) => void,
): void {
  const walk = (at: SyntaxNode, parent: SyntaxNode | undefined) => {
    enter(at, parent);
    for (const value of Object.values(at)) {
      for (const child of Array.isArray(value) ? value : [value]) {
        if (typeof child === 'object' && child !== null && 'type' in child) walk(child as SyntaxNode, at);
      }
    }
  };
  walk(node, undefined);
}

export function lineAt(file: SourceFile, position: number): number {
  return file.text.slice(0, position).split('\n').length;
}

/** Names of the outer world that a file uses: globals, and members of them like `Math.random`. */
export function globalsUsed(file: SourceFile, names: ReadonlySet<string>): string[] {
  const used: string[] = [];
  const declared = new Set<string>();
  visit(file.tree, (node, parent) => {
    if (node.type !== 'Identifier') return;
    const name = String(node.name);
    if (isDeclaration(node, parent)) declared.add(name);
    if (isReference(node, parent) && names.has(name))
      used.push(`${name} in line ${lineAt(file, node.start)}`);
    const object = parent?.object as SyntaxNode | undefined;
    const path = `${object?.name}.${name}`;
    if (parent?.type === 'MemberExpression' && parent.property === node && names.has(path)) {
      used.push(`${path} in line ${lineAt(file, node.start)}`);
    }
  });
  return used.filter(entry => !declared.has(entry.split(' ', 1)[0]!));
}

function isDeclaration(node: SyntaxNode, parent: SyntaxNode | undefined): boolean {
  if (!parent) return false;
  if (/^Import(Default|Namespace)?Specifier$/.test(parent.type)) return true;
  if (parent.id === node) return true;
  return Array.isArray(parent.params) && parent.params.includes(node);
}

function isReference(node: SyntaxNode, parent: SyntaxNode | undefined): boolean {
  if (!parent) return true;
  if (parent.type === 'MemberExpression') return parent.object === node || parent.computed === true;
  if (parent.type.startsWith('TS')) return false;
  const isKey = parent.key === node && parent.value !== node;
  return !isKey && !isDeclaration(node, parent);
}

/** Lines of the comment that begins the file (after the imports, for a file that starts with them), or 0. */
export function headCommentLines(file: SourceFile): number {
  const head = /^(?:import [^;]*;\s*)*\/\*\*([\s\S]*?)\*\//.exec(file.text);
  return head ? head[0].slice(head[0].indexOf('/**')).split('\n').length : 0;
}

const FUNCTIONS: ReadonlySet<string> = new Set([
  'FunctionDeclaration',
  'FunctionExpression',
  'ArrowFunctionExpression',
]);

/** Functions, methods and arrows with their length in lines. */
export function functionLengths(file: SourceFile): { line: number; lines: number }[] {
  const found: { line: number; lines: number }[] = [];
  visit(file.tree, node => {
    if (!FUNCTIONS.has(node.type)) return;
    const line = lineAt(file, node.start);
    found.push({ line, lines: lineAt(file, node.end) - line + 1 });
  });
  return found;
}
