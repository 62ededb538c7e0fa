"""The page: one HTML file that shows how an agent learned, its recording, and its template, style and scripts."""
