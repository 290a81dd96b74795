"""What makes the site: parts of pages made from code, and the extension that puts them there."""
