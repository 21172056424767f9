"""The session manager: who is signed in, known in one hop, ended everywhere at the moment the call is answered."""
