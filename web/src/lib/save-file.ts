/** Has the browser save something under a name. */
export function saveFile(content: BlobPart, { name, type }: { name: string; type: string }) {
  const url = URL.createObjectURL(new Blob([content], { type }))
  Object.assign(document.createElement('a'), { href: url, download: name }).click()
  URL.revokeObjectURL(url)
}
