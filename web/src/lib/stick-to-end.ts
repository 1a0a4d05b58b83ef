/** An attachment: shows the end of what grows, unless somebody has scrolled away from it. */
export function stickToEnd(element: HTMLElement): () => void {
  let isAtEnd = true
  const show = () => {
    if (isAtEnd) element.scrollTop = element.scrollHeight
  }
  const look = () => {
    isAtEnd = element.scrollHeight - element.scrollTop - element.clientHeight < 48
  }
  const observer = new MutationObserver(show)
  observer.observe(element, { childList: true, characterData: true, subtree: true })
  element.addEventListener('scroll', look, { passive: true })
  show()
  return () => {
    observer.disconnect()
    element.removeEventListener('scroll', look)
  }
}
