"""What every stage needs: settings, files, the terminal."""
